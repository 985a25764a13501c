"""What a client hears while its job waits, and when it cannot."""

import json
import re
import time

import httpx
import pytest

from api import headers
from api.outlook import Outlook
from tests.api.bodies import BODIES, error_of
from tests.e2e.servers import FAKE_LLM, Server, closed
from tests.support.waiting import until
from tests.support.workers import end, gone


@pytest.fixture(scope="module")
def narrow():
    """One job at a time, a word every 50 ms, and no more than two in the queue."""
    server = Server(llm_slots=1, fake_token_ms=50, keepalive_s=0.2, max_queued=2, embed_model="").start()
    try:
        yield server.until_ready()
    finally:
        closed(server)


@pytest.fixture
def busy(narrow):
    """That server with its slot taken; the name of the job that has it."""
    taken = httpx.post(narrow.url + "/v1/jobs", json=a_job(400)).json()["id"]
    until(lambda: httpx.get(f"{narrow.url}/v1/jobs/{taken}").json()["status"] == "in_progress")
    yield narrow, taken
    jobs = httpx.get(narrow.url + "/v1/jobs").json()["data"]
    for job in jobs:
        httpx.delete(f"{narrow.url}/v1/jobs/{job['id']}")
    until(lambda: not any(_live(narrow, job["id"]) for job in jobs), what="the end of all jobs")


def _live(server, job_id):
    return httpx.get(f"{server.url}/v1/jobs/{job_id}").json()["status"] in ("queued", "in_progress")


def a_job(count, **terms):
    body = {"model": FAKE_LLM, "prompt": "x", "max_tokens": count}
    return {"endpoint": "/v1/completions", "body": body, **terms}


#: What a stream says while its job waits behind another; it ends with the estimate, once there is one.
SECOND = re.compile(r": queued, position 2(, about \d+ s)?")


def test_sse_says_state_and_position_while_it_waits(busy):
    server, taken = busy
    first = httpx.post(server.url + "/v1/jobs", json=a_job(2)).json()
    assert first["queue_position"] == 1
    body = {"model": FAKE_LLM, "messages": [{"role": "user", "content": "x"}], "max_tokens": 2, "stream": True}
    lines = []
    with httpx.stream("POST", server.url + "/v1/chat/completions", json=body) as response:
        assert "X-NPU-Proxy-Device" not in response.headers
        for line in response.iter_lines():
            lines.append(line)
            if sum(bool(SECOND.fullmatch(line)) for line in lines) == 2:
                httpx.delete(f"{server.url}/v1/jobs/{taken}")
    assert sum(bool(SECOND.fullmatch(line)) for line in lines) >= 2
    assert lines[-2:] == ["data: [DONE]", ""]


POSITION, WAIT_S = "X-NPU-Proxy-Queue-Position", "X-NPU-Proxy-Estimated-Wait-S"


@pytest.fixture
def paced(narrow):
    """That server, knowing how long a job runs: it has ended one, and the API has read so."""
    assert httpx.post(narrow.url + "/v1/completions", json=a_job(4)["body"]).status_code == 200
    until(lambda: narrow.health()["engines"]["llm"]["run_s"], what="a report of how long it ran")


@pytest.fixture
def waiting(paced, busy):
    """Two jobs handed in behind the one that runs: the answers to them, and the server."""
    server, _ = busy
    answers = [httpx.post(server.url + "/v1/jobs", json=a_job(2)) for _ in range(2)]

    def job():
        return httpx.get(f"{server.url}/v1/jobs/{answers[1].json()['id']}")

    until(lambda: job().json()["estimated_wait_s"], what="an estimate")
    return server, answers, job()


def test_a_job_that_waits_tells_position_and_estimate_in_its_object_and_its_headers(waiting):
    server, [first, second], shown = waiting
    assert [answer.json()["queue_position"] for answer in (first, second, shown)] == [1, 2, 2]
    assert [answer.headers[POSITION] for answer in (first, second, shown)] == ["1", "2", "2"]
    wait_s = shown.json()["estimated_wait_s"]
    assert shown.headers[WAIT_S] == str(wait_s)
    assert wait_s == round(wait_s, 1)
    # One slot: the job before it takes half of that wait.
    before_s = httpx.get(f"{server.url}/v1/jobs/{first.json()['id']}").json()["estimated_wait_s"]
    assert before_s == pytest.approx(wait_s / 2, abs=0.1)


def test_a_stream_that_waits_tells_position_and_estimate_in_headers_and_comments(paced, busy):
    server, taken = busy
    body = {"model": FAKE_LLM, "prompt": "x", "max_tokens": 2, "stream": True}
    with httpx.stream("POST", server.url + "/v1/completions", json=body) as response:
        assert response.headers[POSITION] == "1"
        assert float(response.headers[WAIT_S]) > 0
        for line in response.iter_lines():
            if re.fullmatch(r": queued, position 1, about [1-9]\d* s", line):
                httpx.delete(f"{server.url}/v1/jobs/{taken}")
    assert line == "" and response.is_stream_consumed


def test_the_events_of_a_job_that_waits_begin_with_its_position(waiting):
    server, _, shown = waiting
    with httpx.stream("GET", f"{server.url}/v1/jobs/{shown.json()['id']}/events") as response:
        assert (response.headers[POSITION], float(response.headers[WAIT_S]) > 0) == ("2", True)


def test_nothing_is_told_of_waiting_once_a_job_runs(paced, narrow):
    body = a_job(4)["body"]
    answered = httpx.post(narrow.url + "/v1/completions", json=body)
    job = httpx.get(f"{narrow.url}/v1/jobs/{answered.headers['X-NPU-Proxy-Job']}")
    streamed = httpx.post(narrow.url + "/v1/completions", json={**body, "stream": True})
    for response in (answered, job, streamed):
        assert not {POSITION.lower(), WAIT_S.lower()} & set(response.headers)
    assert (job.json()["queue_position"], job.json()["estimated_wait_s"]) == (None, None)


def test_an_estimate_that_is_not_known_is_left_out():
    assert headers.of_wait(Outlook(3, None)) == {POSITION: "3"}
    assert headers.of_wait(Outlook(3, 12.5)) == {POSITION: "3", WAIT_S: "12.5"}
    assert headers.of_wait(None) == {}


def test_ndjson_says_it_in_chunks_that_clients_can_read(busy):
    server, taken = busy
    body = {"model": FAKE_LLM, "messages": [{"role": "user", "content": "x"}], "options": {"num_predict": 2}}
    chunks = []
    with httpx.stream("POST", server.url + "/api/chat", json=body) as response:
        for line in response.iter_lines():
            chunks.append(json.loads(line))
            if len(chunks) == 3:
                httpx.delete(f"{server.url}/v1/jobs/{taken}")
    assert [c["message"]["content"] for c in chunks[:3]] == ["", "", ""]
    assert not any(c["done"] for c in chunks[:3])
    assert "".join(c["message"]["content"] for c in chunks) == " 1 2"
    assert chunks[-1]["done_reason"] == "length"


def test_a_full_queue_refuses_before_anything_is_queued_or_streamed(busy):
    server, _ = busy
    for _ in range(2):
        assert httpx.post(server.url + "/v1/jobs", json=a_job(2)).status_code == 202
    before = httpx.get(server.url + "/v1/jobs").json()["first_id"]
    refused = httpx.post(server.url + "/v1/completions", json={**BODIES["/v1/completions"], "stream": True})
    assert refused.status_code == 429
    assert error_of(refused)["code"] == "rate_limit_exceeded"
    assert int(refused.headers["Retry-After"]) > 0
    assert "x-should-retry" not in refused.headers
    refused = httpx.post(server.url + "/api/chat", json=BODIES["/api/chat"])
    assert refused.status_code == 503
    assert refused.json() == {"error": "server busy, please try again.  maximum pending requests exceeded"}
    assert httpx.get(server.url + "/v1/jobs").json()["first_id"] == before


def test_a_job_that_waits_too_long_expires_and_is_not_tried_again(busy):
    server, _ = busy
    late = httpx.post(server.url + "/v1/jobs", json=a_job(2, queue_timeout=0.2)).json()["id"]
    with httpx.stream("GET", f"{server.url}/v1/jobs/{late}/events") as response:
        events = response.read().decode()
    assert '"status":"expired"' in events
    job = httpx.get(f"{server.url}/v1/jobs/{late}").json()
    assert (job["status"], job["error"]["code"], job["started_at"]) == ("expired", "queue_timeout", None)


def test_without_redis_the_answer_is_a_503_at_once(own_valkey):
    server = Server(redis_url=own_valkey.url, embed_model="").start()
    try:
        server.until_ready()
        body = BODIES["/v1/completions"]
        assert httpx.post(server.url + "/v1/completions", json=body).status_code == 200
        own_valkey.kill()
        for path in ("/v1/completions", "/api/chat", "/v1/jobs"):
            asked = time.monotonic()
            response = httpx.post(server.url + path, json=BODIES[path], timeout=10)
            assert time.monotonic() - asked < 1
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
            assert "away" in error_of(response)["message"]
        assert httpx.get(server.url + "/health").status_code == 503
        assert httpx.get(server.url + "/health/readiness").status_code == 503
        assert httpx.get(server.url + "/health/liveness").status_code == 200
        assert "npu_proxy_redis_up 0.0" in httpx.get(server.url + "/metrics").text
        own_valkey.start()
        until(lambda: httpx.post(server.url + "/v1/completions", json=body).status_code == 200, what="an answer")
    finally:
        closed(server)


def test_an_engine_that_is_away_is_told_of_and_comes_back(narrow):
    [engine] = narrow.pids("engines.process")
    end(engine)
    until(lambda: gone(engine))
    until(lambda: narrow.health()["engines"]["llm"]["state"] != "ready", what="a report of the crash")
    narrow.until_ready()
