"""Limits of a user over HTTP: 429 before anything is queued, in the dialect, with what is left."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from tests.api.bodies import error_of
from tests.e2e.servers import FAKE_EMBED, FAKE_LLM, Server, closed
from tests.support.waiting import until


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """What a user may do here is little; each test is another user. One job runs at a time, and lasts."""
    limits = {"user_requests_per_minute": 5, "user_tokens_per_minute": 3000, "user_max_queued": 3, "max_queued": 6}
    server = Server(llm_slots=1, fake_token_ms=20, default_max_tokens=100, **limits).start()
    try:
        yield server.until_ready()
    finally:
        closed(server)


@pytest.fixture
def http(strict) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=strict.url, timeout=20) as client:
        yield client


def embedding(user) -> dict:
    return {"model": FAKE_EMBED, "input": "one two three", "user": user}


def long_job(http, user) -> httpx.Response:
    body = {"model": FAKE_LLM, "prompt": "go on", "max_tokens": 500, "user": user}
    return http.post("/v1/jobs", json={"endpoint": "/v1/completions", "body": body})


def test_the_request_that_is_one_too_many_is_told_when_to_come_again(http):
    answers = [http.post("/v1/embeddings", json=embedding("many")) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    left = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
    assert left == ["4", "3", "2", "1", "0", "0"]
    refused = answers[-1]
    assert refused.headers["x-ratelimit-limit-requests"] == "5"
    assert 50 <= int(refused.headers["Retry-After"]) <= 61
    assert refused.headers["x-ratelimit-reset-requests"] in ("58s", "59s", "1m0s", "1m1s")
    error = error_of(refused)
    assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "rate_limit_exceeded", None)
    assert "5 requests a minute" in error["message"]


def test_others_are_not_touched_by_it(http):
    for _ in range(6):
        http.post("/v1/embeddings", json=embedding("loud"))
    assert http.post("/v1/embeddings", json=embedding("quiet")).status_code == 200


def test_a_quota_is_exact_however_many_connections_ask_at_once(http):
    with ThreadPoolExecutor(20) as many:
        answers = list(many.map(lambda _: http.post("/v1/embeddings", json=embedding("swarm")), range(40)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 35


def test_a_stream_is_refused_before_it_begins(http):
    body = {"model": FAKE_LLM, "prompt": "x", "stream": True, "max_tokens": 2, "user": "streamer"}
    for _ in range(5):
        assert "data: [DONE]" in http.post("/v1/completions", json=body).text
    refused = http.post("/v1/completions", json=body)
    assert refused.status_code == 429
    assert refused.headers["Content-Type"] == "application/json"


def test_the_longest_answer_counts_until_the_job_has_ended(http):
    body = {"model": FAKE_LLM, "prompt": "one two", "user": "careful"}
    answer = http.post("/v1/completions", json={**body, "max_tokens": 8})
    assert answer.headers["x-ratelimit-remaining-tokens"] == "2990"
    answer = http.post("/v1/completions", json={**body, "max_tokens": 4})
    assert answer.headers["x-ratelimit-remaining-tokens"] == "2984"
    refused = http.post("/v1/completions", json={**body, "max_tokens": 3100})
    assert refused.status_code == 429
    assert refused.headers["x-should-retry"] == "false"
    assert "may need 3102" in error_of(refused)["message"]


def test_openais_client_knows_it_as_a_rate_limit(strict):
    client = openai.OpenAI(base_url=strict.url + "/v1", api_key="none", max_retries=0)
    with client, pytest.raises(openai.RateLimitError, match="requests a minute"):
        for _ in range(6):
            client.embeddings.create(model=FAKE_EMBED, input="x", user="sdk")


def test_under_api_a_quota_is_a_429_and_a_full_queue_ollamas_503(http):
    def wait_for_room() -> bool:
        return bool(http.get("/health").json()["engines"]["llm"]["waiting"] == 0)

    jobs = [long_job(http, "deep")]
    until(lambda: http.get(jobs[0].headers["Location"]).json()["status"] == "in_progress")
    jobs += [long_job(http, "deep") for _ in range(4)]
    assert [job.status_code for job in jobs] == [202] * 4 + [429]
    assert "3 of your jobs are waiting" in error_of(jobs[-1])["message"]
    assert jobs[-2].headers["x-ratelimit-remaining-requests"] == "1"
    assert "x-ratelimit-remaining-requests" not in jobs[-1].headers  # Nobody looked: it is the queue that is full.
    more = [long_job(http, "other") for _ in range(4)]
    assert [job.status_code for job in more] == [202] * 3 + [429]
    try:
        body = {"model": FAKE_LLM, "prompt": "x", "options": {"num_predict": 1}}
        busy = http.post("/api/generate", json=body)
        assert busy.status_code == 503
        assert busy.json()["error"].startswith("server busy, please try again.")
        assert int(busy.headers["Retry-After"]) >= 1
    finally:
        for job in jobs + more:
            if job.status_code == 202:
                http.delete(job.headers["Location"])
    until(wait_for_room)
    body = {"model": FAKE_EMBED, "input": "x"}
    answers = [http.post("/api/embed", json=body) for _ in range(6)]
    assert answers[-1].status_code == 429
    assert "requests a minute" in answers[-1].json()["error"]
