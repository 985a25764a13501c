"""Paths, methods, headers and what the server says of itself."""

import re
import socket

import httpx
import pytest

from tests.api.bodies import BODIES, FAKE_RERANK, error_of
from tests.e2e.servers import FAKE_EMBED, FAKE_LLM

OPENAI_KEYS = ["message", "type", "param", "code"]


@pytest.mark.parametrize("path", ["/v1/nope", "/nope", "/v1", "/v1/chat", "/v1/jobs/a/b", "/v1/chat/completions/x"])
def test_an_unknown_path_is_a_404_in_openais_shape(http, path):
    response = http.post(path, json={})
    assert response.status_code == 404
    assert error_of(response)["message"] == f"There is no POST {path} here."


@pytest.mark.parametrize("path", ["/api", "/api/nope", "/api/chat/x"])
def test_an_unknown_path_of_ollamas_is_a_404_in_its_shape(http, path):
    response = http.get(path)
    assert (response.status_code, response.json()) == (404, {"error": f"There is no GET {path} here."})


def test_a_wrong_method_is_told_the_right_one(http):
    wrong = http.get("/v1/chat/completions")
    assert wrong.status_code == 405
    assert error_of(wrong)["message"] == "There is no GET /v1/chat/completions here; there is POST."
    assert set(wrong.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}
    wrong = http.delete("/api/tags")
    assert wrong.json() == {"error": "There is no DELETE /api/tags here; there is GET."}
    assert set(wrong.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    "job_id",
    [
        "x",
        "job_",
        "job_" + "a" * 24,
        "job_" + "a" * 3000,
        "%00",
        "job_%00aaaaaaaaaaaaaaaaaaaaaaa",
        "..%2f..%2fetc",
        "..",
        "a%2fb",
        "%ed%a0%80",
        "%F0%9F%98%80",
        "job_" + "%D9%A1" * 24,
        "*",
        "job_%0d%0aSet-Cookie:x",
        "events",
        "%2e",
        "null",
    ],
)
@pytest.mark.parametrize(("method", "more"), [("GET", ""), ("GET", "/events"), ("DELETE", "")])
def test_an_id_that_is_none_is_a_404(http, method, job_id, more):
    response = http.request(method, f"/v1/jobs/{job_id}{more}")
    if str(response.request.url.path).rstrip("/") in ("/v1", "/v1/jobs"):
        return  # The client itself has resolved the dots.
    assert response.status_code == 404
    assert list(error_of(response)) == OPENAI_KEYS
    assert "Set-Cookie" not in response.headers


@pytest.fixture(scope="module")
def finished(http):
    """The id of a job that has ended."""
    body = {"model": FAKE_LLM, "prompt": "x", "max_tokens": 3}
    return http.post("/v1/completions", json=body).headers["X-NPU-Proxy-Job"]


@pytest.mark.parametrize(
    "last",
    [
        "x",
        "0-0",
        "-1",
        "1-1",
        "9" * 20 + "-0",
        f"{2**64 - 1}-{2**64 - 1}",
        "9999999999999-0",
        "1-",
        "%",
        "\xb2-1",
        "9" * 5000,
    ],
)
def test_a_last_event_id_that_is_none_starts_at_the_beginning_and_says_so(http, finished, last):
    response = http.get(f"/v1/jobs/{finished}/events", headers={"Last-Event-ID": last.encode("latin-1")})
    assert response.status_code == 200
    assert response.text.startswith(": Last-Event-ID is not one of this job's")
    assert response.text.count("event: done") == 1


def test_behind_the_last_event_there_is_nothing_to_wait_for(http, finished):
    ids = re.findall(r"^id: (.*)$", http.get(f"/v1/jobs/{finished}/events").text, re.MULTILINE)
    assert http.get(f"/v1/jobs/{finished}/events", headers={"Last-Event-ID": ids[-1]}).status_code == 204


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("limit=abc", 3),
        ("limit=-1", 1),
        ("limit=0", 1),
        ("limit=2", 2),
        ("limit=" + "9" * 4000, 3),
        ("after=%ed%a0", 3),
    ],
)
def test_lists_take_any_query(http, finished, query, shown):
    for _ in range(3):
        http.post("/v1/embeddings", json=BODIES["/v1/embeddings"])
    page = http.get(f"/v1/jobs?{query}")
    assert page.status_code == 200
    assert len(page.json()["data"]) >= shown if shown == 3 else len(page.json()["data"]) == shown


def test_pages_of_jobs_follow_each_other(http):
    for _ in range(3):
        http.post("/v1/embeddings", json=BODIES["/v1/embeddings"])
    first = http.get("/v1/jobs?limit=2").json()
    assert first["has_more"]
    second = http.get("/v1/jobs", params={"limit": 1, "after": first["last_id"]}).json()
    whole = http.get("/v1/jobs?limit=3").json()
    assert first["data"] + second["data"] == whole["data"]


@pytest.mark.parametrize("asked", ["a b", "x" * 129, "a\tb", "\xe9", "<script>", ""])
def test_a_request_id_that_is_not_sane_is_replaced(http, asked):
    response = http.get("/health/liveness", headers={"X-Request-Id": asked.encode("latin-1")})
    assert re.fullmatch(r"req_[A-Za-z0-9]{24}", response.headers["X-Request-Id"])


def test_a_request_id_of_the_callers_comes_back_also_with_an_error(http):
    response = http.get("/v1/nope", headers={"X-Request-Id": "mine-1.a_B"})
    assert response.headers["X-Request-Id"] == "mine-1.a_B"


@pytest.mark.parametrize("path", [p for p in BODIES if p != "/v1/jobs"])
def test_an_answer_says_what_ran_where_and_how_long(http, path):
    headers = http.post(path, json=BODIES[path]).headers
    assert headers["X-NPU-Proxy-Job"].startswith("job_")
    assert headers["X-NPU-Proxy-Model"] in (FAKE_LLM, FAKE_EMBED, FAKE_RERANK)
    assert headers["X-NPU-Proxy-Device"] == "CPU"
    assert int(headers["X-NPU-Proxy-Token-Count"]) > 0
    assert 0 <= int(headers["X-NPU-Proxy-Queue-Ms"]) < 5000
    assert 0 <= int(headers["X-NPU-Proxy-Run-Ms"]) < 5000


def test_health(http):
    health = http.get("/health").json()
    assert (health["status"], health["redis"]) == ("ok", "ok")
    assert health["engines"]["llm"]["state"] == "ready"
    assert health["engines"]["embed"]["model"] == FAKE_EMBED
    assert http.get("/health/liveness").json() == {"status": "ok"}
    assert http.get("/health/readiness").status_code == 200


def test_metrics_tell_of_requests_and_queues(http):
    http.post("/v1/embeddings", json=BODIES["/v1/embeddings"])
    text = http.get("/metrics").text
    assert re.search(r'flask_http_request_total{.*method="POST".*status="200".*} [1-9]', text)
    assert 'url_rule="/v1/embeddings"' in text
    assert 'npu_proxy_jobs_waiting{engine="llm"} 0.0' in text
    assert 'npu_proxy_slots{device="CPU",engine="embed"} 8.0' in text
    assert "npu_proxy_redis_up 1.0" in text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://[", "Content-Type": "text/plain"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:1"},
        {"Host": "evil.example"},
        {"Host": "evil.example:11435"},
        {"Host": "localhost.evil.example"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/completions", "/api/embed"])
def test_pages_of_other_sites_can_do_nothing(http, headers, path):
    response = http.post(path, json=BODIES[path], headers=headers)
    assert response.status_code == 403
    error_of(response)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"},
        {"Sec-Fetch-Site": "none"},
        {"Host": "localhost:11435", "Origin": "http://localhost:11435"},
        {"Host": "npu.localhost"},
        {"Host": "[::1]:11435"},
        {"Host": "192.168.1.5"},
    ],
)
def test_our_own_pages_and_programs_can(http, headers):
    assert http.post("/v1/completions", json=BODIES["/v1/completions"], headers=headers).status_code == 200


def test_no_answer_may_be_read_by_pages_of_other_sites(http):
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for response in (http.options("/v1/chat/completions", headers=asked), http.get("/v1/models", headers=asked)):
        assert not [name for name in response.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"5\r\n{}",
        b"-1\r\n{}\r\n",
        b"\r\n\r\n",
    ],
)
def test_chunks_that_are_none_are_the_clients_fault(server, body):
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(head + body)
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(65536)
    assert answer == b"" or answer.split()[1] == b"400"


def test_a_prompt_that_crashes_the_engine_twice_ends_with_an_error_in_the_dialect(server):
    words = "fake:crash"
    body = {"model": FAKE_LLM, "prompt": words, "raw": True, "options": {"num_predict": 9}}
    with httpx.stream("POST", server.url + "/api/generate", json=body, timeout=30) as response:
        lines = list(response.iter_lines())
    assert lines[-1].startswith('{"error":"The engine crashed 2 times')

    failed = httpx.post(
        server.url + "/v1/completions", json={"model": FAKE_LLM, "prompt": words, "max_tokens": 9}, timeout=30
    )
    assert failed.status_code == 500
    assert error_of(failed)["code"] == "engine_crashed"
    assert failed.headers["x-should-retry"] == "false"
    assert failed.headers["X-NPU-Proxy-Device"] == "CPU"
    job = httpx.get(f"{server.url}/v1/jobs/{failed.headers['X-NPU-Proxy-Job']}").json()
    assert (job["status"], job["partial"], job["error"]["code"]) == ("failed", {"text": " 1 2"}, "engine_crashed")
    server.until_ready()


def test_methods_that_clients_invent_are_one_in_the_metrics(http):
    for method in ("BREW", "X" * 20, "PROPFIND"):
        assert http.request(method, "/v1/models").status_code == 405
    metrics = http.get("/metrics").text
    assert 'method="OTHER"' in metrics
    assert "BREW" not in metrics
