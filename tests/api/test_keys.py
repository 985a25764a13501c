"""A server that asks for API keys, over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import openai
import pytest
from flask import Flask

from api import auth, errors
from jobs import keys
from jobs.connection import connect
from jobs.users import UserStore, Wishes
from scheduler.limits import UserLimits
from tests.api.bodies import BODIES, FAKE_RERANK, error_of
from tests.e2e.servers import FAKE_EMBED, FAKE_LLM, Server, closed
from tests.support.waiting import until

HELLO = [{"role": "user", "content": "Hello"}]
OPENAI_401 = {"type": "invalid_request_error", "param": None, "code": "invalid_api_key"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    limits = {"user_max_queued": 7, "user_requests_per_minute": 1000}
    server = Server(auth="keys", fake_token_ms=5, rerank_model=FAKE_RERANK, **limits).start()
    try:
        yield server.until_ready()
    finally:
        closed(server)


@pytest.fixture(scope="module")
def users(server: Server) -> Iterator[UserStore]:
    with connect(f"unix://{server.data_dir}/redis/redis.sock") as redis:
        yield UserStore(redis)


@pytest.fixture(scope="module")
def client(server: Server, users: UserStore):
    """A client with a new key: `client("alice")`, `client("root", admin=True)`."""
    clients: list[httpx.Client] = []

    def make(name: str, **wishes) -> httpx.Client:
        bearer = {"Authorization": f"Bearer {users.create(name, Wishes(**wishes))}"}
        clients.append(httpx.Client(base_url=server.url, timeout=20, headers=bearer))
        return clients[-1]

    yield make
    for each in clients:
        each.close()


@pytest.fixture(scope="module")
def alice(client) -> httpx.Client:
    return client("alice")


@pytest.fixture(scope="module")
def bob(client) -> httpx.Client:
    return client("bob")


@pytest.fixture(scope="module")
def root(client) -> httpx.Client:
    return client("root", admin=True)


@pytest.fixture
def anyone(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as http:
        yield http


@pytest.fixture(scope="module")
def bad(users: UserStore) -> dict[str, str]:
    """Headers that open nothing, by what is wrong with them."""
    good, revoked = users.create("carol"), users.create("carol")
    users.revoke("carol", revoked.split("_")[1])
    return {
        "empty": "",
        "no scheme": good,
        "another scheme": f"Basic {good}",
        "no key": "Bearer",
        "unknown": "Bearer npk_" + "a" * 12 + "_" + "b" * 32,
        "revoked": f"Bearer {revoked}",
        "another secret": f"Bearer {good[:-1]}{'A' if good[-1] != 'A' else 'B'}",
        "malformed": "Bearer sk-none",
        "only the id": f"Bearer {good.split('_')[1]}",
        "two": f"Bearer {good} {good}",
        "huge": "Bearer " + "x" * 7000,
        "not ASCII": "Bearer npk_\xe9\xff",
        "quoted": f'Bearer "{good}"',
        "the key in Redis": "Bearer " + keys.api_key(good.split("_")[1]),
    }


KINDS = [
    "empty", "no scheme", "another scheme", "no key", "unknown", "revoked", "another secret", "malformed",
    "only the id", "two", "huge", "not ASCII", "quoted", "the key in Redis",
]  # fmt: skip


def job_of(http: httpx.Client, **more) -> str:
    body = {"model": FAKE_LLM, "prompt": "x", "max_tokens": 3, **more}
    sent = http.post("/v1/jobs", json={"endpoint": "/v1/completions", "body": body})
    assert sent.status_code == 202, sent.text
    job_id: str = sent.json()["id"]
    return job_id


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_is_none_is_a_401_in_openais_shape(anyone, bad, kind):
    headers = {"Authorization": bad[kind].encode("latin-1")}
    for response in (
        anyone.post("/v1/completions", json=BODIES["/v1/completions"], headers=headers),
        anyone.get("/v1/models", headers=headers),
    ):
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert {**error_of(response), "message": ""} == {"message": "", **OPENAI_401}


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_is_none_is_a_401_in_ollamas_shape(anyone, bad, kind):
    headers = {"Authorization": bad[kind].encode("latin-1")}
    for response in (anyone.post("/api/chat", json=BODIES["/api/chat"], headers=headers), anyone.get("/api/tags")):
        assert (response.status_code, response.json()) == (401, {"error": "unauthorized"})
        assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("POST", path) for path in BODIES],
        *[("GET", path) for path in ("/v1/models", "/v1/models/x", "/v1/jobs", "/v1/jobs/x", "/v1/jobs/x/events")],
        *[("GET", path) for path in ("/api/tags", "/api/version", "/metrics", "/nope", "/v1/nope", "/health/x")],
        ("GET", "/health//"),
        ("DELETE", "/v1/jobs/x"),
        ("OPTIONS", "/v1/models"),
        ("POST", "/health"),
        ("GET", "/v1/chat/completions"),
    ],
)
def test_without_a_key_every_path_is_a_401(anyone, method, path):
    response = anyone.request(method, path, json={} if method == "POST" else None)
    assert response.status_code == 401
    error_of(response)


def test_whether_the_server_is_there_everybody_may_ask(anyone):
    assert anyone.get("/").text == "Ollama is running"
    assert anyone.head("/").status_code == 200
    for path in ("/health", "/health/liveness", "/health/readiness"):
        assert anyone.get(path).status_code == 200
        assert anyone.get(path, headers={"Authorization": "Bearer nonsense"}).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_the_scheme_may_be_written_in_any_case(anyone, users, scheme):
    headers = {"Authorization": f"{scheme} {users.create('alice')}"}
    assert anyone.get("/v1/models", headers=headers).status_code == 200


def test_the_guard_comes_before_the_key(anyone):
    assert anyone.get("/v1/models", headers={"Host": "evil.example"}).status_code == 403


def test_the_key_is_checked_before_the_body_is_read(server):
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(head)  # And not a byte of the body.
        assert client.recv(65536).split()[1] == b"401"


def test_a_body_that_is_no_json_tells_nothing_without_a_key(anyone):
    assert anyone.post("/v1/completions", content=b"{").status_code == 401


def test_only_admins_read_the_metrics(alice, root):
    refused = alice.get("/metrics")
    assert (refused.status_code, error_of(refused)["code"]) == (403, "admin_only")
    assert "npu_proxy_redis_up 1.0" in root.get("/metrics").text


def test_a_key_that_is_revoked_opens_nothing_from_that_moment(client, users):
    http = client("dave")
    assert http.get("/v1/models").status_code == 200
    users.revoke("dave")
    assert http.get("/v1/models").status_code == 401


def test_a_rotated_key_leaves_the_jobs_with_their_user(client, users):
    old = client("erin")
    job_id = job_of(old)
    bearer = {"Authorization": f"Bearer {users.rotate('erin')}"}
    assert old.get(f"/v1/jobs/{job_id}").status_code == 401
    assert old.get(f"/v1/jobs/{job_id}", headers=bearer).status_code == 200


@pytest.mark.parametrize(("method", "more"), [("GET", ""), ("DELETE", ""), ("GET", "/events")])
def test_another_users_job_is_a_job_that_never_was(alice, bob, root, method, more):
    job_id = job_of(alice)
    refused = bob.request(method, f"/v1/jobs/{job_id}{more}")
    nothing = bob.request(method, f"/v1/jobs/job_{'a' * 24}{more}")
    assert (refused.status_code, nothing.status_code) == (404, 404)
    assert refused.text.replace(job_id, "") == nothing.text.replace("job_" + "a" * 24, "")
    assert set(refused.headers) == set(nothing.headers)
    until(lambda: alice.get(f"/v1/jobs/{job_id}").json()["status"] == "completed", what="the job nobody cancelled")


def test_a_list_has_only_ones_own_jobs(alice, bob):
    mine, other = job_of(alice), job_of(bob)
    listed = [job["id"] for job in alice.get("/v1/jobs?limit=100").json()["data"]]
    assert mine in listed
    assert other not in listed
    page = alice.get("/v1/jobs", params={"after": other}).json()["data"]
    assert other not in [job["id"] for job in page]


def test_an_admin_sees_lists_and_cancels_the_job_of_another(alice, root):
    job_id = job_of(alice, max_tokens=5000)
    assert root.get(f"/v1/jobs/{job_id}").json()["id"] == job_id
    assert root.get("/v1/jobs", params={"user": "alice", "limit": 1}).json()["first_id"] == job_id
    assert job_id not in [job["id"] for job in root.get("/v1/jobs").json()["data"]]
    root.delete(f"/v1/jobs/{job_id}")
    until(lambda: alice.get(f"/v1/jobs/{job_id}").json()["status"] == "cancelled", what="the end of the job")
    assert "event: done" in root.get(f"/v1/jobs/{job_id}/events").text


def test_only_admins_list_the_jobs_of_another(alice, bob):
    refused = bob.get("/v1/jobs", params={"user": "alice"})
    assert (refused.status_code, error_of(refused)["code"]) == (403, "admin_only")
    assert bob.get("/v1/jobs", params={"user": "bob"}).status_code == 200
    assert bob.get("/v1/jobs", params={"user": "local"}).status_code == 403


@pytest.mark.parametrize("path", [path for path in BODIES if path.startswith("/v1")])
def test_the_user_in_a_body_changes_nothing(alice, users, path):
    body = dict(BODIES[path])
    (body["body"] if path == "/v1/jobs" else body)["user"] = "bob"
    answer = alice.post(path, json=body)
    assert answer.is_success, answer.text
    job_id = answer.headers["X-NPU-Proxy-Job"]
    record = users._redis.hgetall(keys.job(job_id))
    assert (record["user"], record["owner"]) == ("alice", "user:alice")
    assert record["user_key"] == keys.user_key("alice")


def test_an_account_gives_its_weight_and_its_limits_before_those_of_all(server, client, users):
    job_id = job_of(client("frank", weight=4, requests_per_minute=9))
    assert users._redis.hget(keys.job(job_id), "weight") == "4.0"
    frank = users.find(users.create("frank"))
    assert auth.caller_of(frank, UserLimits(1000, 50, 7, 1)).limits == UserLimits(9, 50, 7, 1)


def test_a_user_called_local_has_nothing_of_what_is_made_without_keys(client):
    local = client("local")
    job_id = job_of(local)
    assert [job["id"] for job in local.get("/v1/jobs").json()["data"]] == [job_id]


def test_the_openai_client_chats_streams_and_embeds_with_a_key(server, users):
    with openai.OpenAI(base_url=server.url + "/v1", api_key=users.create("alice"), max_retries=0) as client:
        stream: Any = client.chat.completions.create(
            model=FAKE_LLM, messages=[{"role": "user", "content": "Hello"}], max_tokens=3, stream=True
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == " 1 2 3"
        assert len(client.embeddings.create(model=FAKE_EMBED, input="x").data) == 1


def test_the_openai_client_knows_what_a_bad_key_means(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            client.models.list()
    assert refused.value.code == "invalid_api_key"


def test_the_ollama_client_streams_with_a_key_and_knows_a_bad_one(server, users):
    with ollama.Client(server.url, headers={"Authorization": f"Bearer {users.create('alice')}"}) as client:
        parts = list(client.chat(FAKE_LLM, HELLO, options={"num_predict": 3}, stream=True))
    assert "".join(part.message.content or "" for part in parts) == " 1 2 3"
    with ollama.Client(server.url) as client, pytest.raises(ollama.ResponseError, match="unauthorized") as refused:
        client.list()
    assert refused.value.status_code == 401


@pytest.mark.parametrize(("path", "shape"), [("/v1/models", dict), ("/api/tags", str)])
def test_while_redis_is_away_nobody_is_let_in_and_nobody_told_that_their_key_is_wrong(path, shape):
    app = Flask("keyed", static_folder=None)
    errors.register(app)
    with connect("unix:///nowhere/redis.sock") as redis:
        auth.register(app, UserStore(redis), UserLimits())
        http = app.test_client()
        answer = http.get(path, headers={"Authorization": "Bearer npk_" + "a" * 12 + "_" + "b" * 32})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "2"
        assert isinstance(answer.get_json()["error"], shape)
        assert http.get(path).status_code == 401


def test_a_stream_that_has_begun_outlives_its_key(server, client, users):
    http = client("grace")
    body = {"model": FAKE_LLM, "messages": HELLO, "max_tokens": 30, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        users.revoke("grace")
        assert "data: [DONE]" in list(lines)
    assert http.get("/v1/models").status_code == 401
