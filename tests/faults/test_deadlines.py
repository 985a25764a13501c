"""Deadlines hold: of the queue, of the run, of the caller; to the millisecond or so, and where no worker lives."""

from __future__ import annotations

import json
import random
import time
from statistics import median, quantiles
from typing import Any

import httpx
import pytest

from jobs import events, keys
from jobs.record import Job
from jobs.recovery import Reaper
from jobs.store import QUEUE_TIMEOUT, JobStore
from tests.e2e.servers import FAKE_EMBED, FAKE_LLM, Server, closed
from tests.faults.callers import CHAT, ended, made, store_of
from tests.support.waiting import until

HEADER = "X-Request-Timeout"
#: The server's own limits, the shortest there are. Seconds.
QUEUE_S, RUN_S = 1.0, 1.0
#: What a waiting caller's answer may take beyond the deadline: a look every 0.25 s, and room. Seconds.
ROOM_S = 1.0

COMPLETIONS, EMBEDDINGS = "/v1/completions", "/v1/embeddings"
OLLAMA_CHAT, OLLAMA_TEXT, OLLAMA_EMBED = "/api/chat", "/api/generate", "/api/embed"
MESSAGES = [{"role": "user", "content": "x"}]
#: Of each endpoint a request whose answer does not end in time.
ENDLESS: dict[str, dict[str, Any]] = {
    CHAT: {"model": FAKE_LLM, "messages": MESSAGES, "max_tokens": 5000},
    COMPLETIONS: {"model": FAKE_LLM, "prompt": "x", "max_tokens": 5000},
    OLLAMA_CHAT: {"model": FAKE_LLM, "messages": MESSAGES, "stream": False, "options": {"num_predict": 5000}},
    OLLAMA_TEXT: {"model": FAKE_LLM, "prompt": "x", "stream": False, "options": {"num_predict": 5000}},
}
TEXTS = {EMBEDDINGS: {"model": FAKE_EMBED, "input": "x"}, OLLAMA_EMBED: {"model": FAKE_EMBED, "input": "x"}}


@pytest.fixture(scope="module")
def brief():
    """A word every 20 ms, two at a time; one look at an embedding takes longer than it may."""
    limits = {"queue_timeout_s": QUEUE_S, "run_timeout_s": RUN_S}
    server = Server(fake_token_ms=20, llm_slots=2, keepalive_s=0.3, **limits).start()
    try:
        yield server.until_ready()
    finally:
        closed(server)


@pytest.fixture
def http(brief):
    with httpx.Client(base_url=brief.url, timeout=30) as client:
        yield client


@pytest.fixture
def kept(brief):
    with store_of(brief) as kept:
        yield kept


@pytest.fixture
def full(http, kept):
    """Both slots taken, for longer than a job may wait."""
    jobs = [kept.get(hand_in(http, CHAT).json()["id"]) for _ in range(2)]
    until(lambda: all(kept.get(job.id).state == "in_progress" for job in jobs), what="slots that are taken")
    yield
    for job in jobs:
        kept.cancel(job)
        ended(kept, job)


def hand_in(http: httpx.Client, endpoint: str, headers: dict[str, str] | None = None, **terms: Any) -> httpx.Response:
    body = {**ENDLESS, **TEXTS}[endpoint]
    return http.post("/v1/jobs", json={"endpoint": endpoint, "body": body, **terms}, headers=headers)


def job_of(kept: JobStore, answer: httpx.Response) -> Job:
    """The job of an answer, over."""
    return ended(kept, there(kept, answer.headers["X-NPU-Proxy-Job"]))


def there(kept: JobStore, job_id: str) -> Job:
    """A job that must be there."""
    job = kept.get(job_id)
    assert job is not None
    return job


# --- what a caller is told


@pytest.mark.parametrize("path", ENDLESS)
def test_who_waits_in_vain_for_a_slot_is_told_so_and_nothing_ran(http, kept, full, path):
    asked = time.monotonic()
    answer = http.post(path, json=ENDLESS[path], headers={HEADER: "0.3"})
    assert time.monotonic() - asked < 0.3 + ROOM_S
    assert answer.status_code == 503
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert "queue" in (error if path.startswith("/api/") else error["message"])
    assert path.startswith("/api/") or error["code"] == "queue_timeout"
    job = job_of(kept, answer)
    assert (job.state, job.attempt, job.started_ms) == ("expired", 0, 0)


def test_who_waits_in_vain_on_a_stream_is_told_so_in_its_last_chunk(http, full):
    lines = []
    with http.stream("POST", CHAT, json={**ENDLESS[CHAT], "stream": True}, headers={HEADER: "0.8"}) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "queue_timeout"


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_an_answer_cut_by_its_deadline_is_the_text_so_far(http, kept, path):
    asked = time.monotonic()
    answer = http.post(path, json=ENDLESS[path], headers={HEADER: "0.4"})
    assert time.monotonic() - asked < 0.4 + ROOM_S
    assert answer.status_code == 200
    body = answer.json()
    [choice] = body["choices"]
    assert (choice["finish_reason"], body["incomplete_details"]) == ("length", {"reason": "deadline"})
    assert (choice["text"] if path == COMPLETIONS else choice["message"]["content"]).startswith(" 1 2 3")
    assert body["usage"]["completion_tokens"] > 3
    assert job_of(kept, answer).state == "incomplete"


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_stream_cut_by_its_deadline_says_so_in_its_last_chunk(http, path):
    body = {**ENDLESS[path], "stream": True, "stream_options": {"include_usage": True}}
    with http.stream("POST", path, json=body, headers={HEADER: "0.4"}) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    *texts, last, usage = [json.loads(line) for line in lines[:-1]]
    assert (last["choices"][0]["finish_reason"], last["incomplete_details"]) == ("length", {"reason": "deadline"})
    assert not [chunk for chunk in texts if "incomplete_details" in chunk]
    assert usage["usage"]["completion_tokens"] > 3


@pytest.mark.parametrize("path", [OLLAMA_CHAT, OLLAMA_TEXT])
@pytest.mark.parametrize("streams", [True, False], ids=["stream", "call"])
def test_ollamas_clients_are_told_of_a_deadline_as_of_any_end_by_length(http, path, streams):
    answer = http.post(path, json={**ENDLESS[path], "stream": streams}, headers={HEADER: "0.4"})
    assert answer.status_code == 200
    *texts, last = [json.loads(line) for line in answer.text.splitlines()]
    assert (last["done"], last["done_reason"]) == (True, "length")
    assert bool(texts) == streams
    assert last["eval_count"] > 3


@pytest.fixture
def slow_texts():
    """A server whose embeddings take longer than a job may run."""
    server = Server(fake_token_ms=1500, run_timeout_s=1, llm_model="").start()
    try:
        yield server.until_ready()
    finally:
        closed(server)


def test_an_embedding_that_is_late_is_an_error_since_a_part_of_it_is_no_answer(slow_texts):
    with httpx.Client(base_url=slow_texts.url, timeout=30) as http, store_of(slow_texts) as kept:
        answer = http.post(EMBEDDINGS, json=TEXTS[EMBEDDINGS])
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline")
        assert answer.headers["x-should-retry"] == "false"
        assert job_of(kept, answer).state == "failed"
        answer = http.post(OLLAMA_EMBED, json=TEXTS[OLLAMA_EMBED], headers={HEADER: "0.3"})
        assert answer.status_code == 504
        assert "run timeout" in answer.json()["error"]
        answer = hand_in(http, EMBEDDINGS, timeout=0.2)
        job_of(kept, answer)
        shown = http.get(answer.headers["Location"]).json()
        assert (shown["status"], shown["result"], shown["error"]["code"]) == ("failed", None, "deadline")


def test_a_job_cut_by_its_deadline_has_the_text_so_far_as_its_result(http, kept):
    answer = hand_in(http, CHAT, timeout=0.3)
    job = job_of(kept, answer)
    shown = http.get(answer.headers["Location"]).json()
    assert (shown["status"], shown["incomplete_details"]) == ("incomplete", {"reason": "deadline"})
    assert shown["error"] is None
    assert shown["result"]["choices"][0]["message"]["content"].startswith(" 1 2 3")
    assert shown["result"]["choices"][0]["finish_reason"] == "length"
    assert shown["result"]["incomplete_details"] == {"reason": "deadline"}
    assert shown["usage"]["completion_tokens"] == made(job)


# --- how long it is


def test_a_caller_may_set_less_time_than_the_server_allows_and_not_more(http, kept):
    def limits(answer: httpx.Response) -> tuple[float, float]:
        job = job_of(kept, answer)
        queue_s = (job.queue_deadline_ms - job.created_ms) / 1000
        return queue_s, (job.run_deadline_ms - job.started_ms) / 1000

    jobs = [hand_in(http, CHAT, timeout=0.2, queue_timeout=0.5), hand_in(http, CHAT, timeout=60, queue_timeout=60)]
    assert [limits(answer) for answer in jobs] == [(0.5, 0.2), (QUEUE_S, RUN_S)]


def sent_with(http: httpx.Client, how: str, seconds: str) -> str:
    """Send a chat with that header in one of the ways there are; its job's id."""
    headers = {HEADER: seconds}
    if how == "jobs":
        return hand_in(http, CHAT, headers).json()["id"]
    if how == "respond-async":
        return http.post(CHAT, json=ENDLESS[CHAT], headers={**headers, "Prefer": "respond-async"}).json()["id"]
    answer = http.post(CHAT, json={**ENDLESS[CHAT], "stream": how == "stream"}, headers=headers)
    return answer.headers["X-NPU-Proxy-Job"]


@pytest.mark.parametrize("how", ["call", "stream", "respond-async", "jobs"])
def test_the_header_bounds_waiting_and_running_together(http, kept, how):
    job = ended(kept, kept.get(sent_with(http, how, "0.5")))
    assert job.state == "incomplete"
    assert job.queue_deadline_ms == job.deadline_ms == job.created_ms + 500
    assert job.run_deadline_ms == job.deadline_ms
    assert job.deadline_ms <= job.ended_ms < job.deadline_ms + 1000 * ROOM_S


def test_a_header_beyond_the_servers_own_limits_lengthens_neither(http, kept):
    job = ended(kept, kept.get(sent_with(http, "call", "999999999")))
    assert job.queue_deadline_ms == job.created_ms + 1000 * QUEUE_S
    assert job.run_deadline_ms == job.started_ms + 1000 * RUN_S
    assert job.state == "incomplete"


BAD = ["abc", "-1", "0", "0.0", "nan", "inf", "1e9", "", "1 s", "1,5", "٣", "9" * 10, "9" * 400, "0x10", "+1"]


@pytest.mark.parametrize("path", [CHAT, EMBEDDINGS, OLLAMA_CHAT, OLLAMA_EMBED, "/v1/jobs"])
def test_a_header_that_is_no_time_is_refused_before_the_queue(http, kept, path):
    body = {"endpoint": CHAT, "body": ENDLESS[CHAT]} if path == "/v1/jobs" else {**ENDLESS, **TEXTS}[path]
    before = kept.list("local", 1)
    for text in BAD:
        answer = http.post(path, json=body, headers=[(HEADER.encode(), text.encode())])
        assert answer.status_code == 400, text
        error = answer.json()["error"]
        if path.startswith("/api/"):
            assert HEADER in error
        else:
            assert (error["param"], error["code"]) == (HEADER, "invalid_value")
    twice = http.post(path, json=body, headers=[(HEADER, "1"), (HEADER, "2")])
    assert twice.status_code == 400
    assert kept.list("local", 1) == before


# --- how exact they are


def lateness(done: list[Job]) -> list[float]:
    """How many ms after its deadline each job ended; all of them were cut."""
    assert {job.state for job in done} == {"incomplete"}
    return [job.ended_ms - job.run_deadline_ms for job in done]


def judge(late_ms: list[float], steps_ms: list[float], many: bool) -> str:
    """The figures in words; fails when a job ended early, or one in a hundred more than a step late."""
    late, step = p99(late_ms), p99(steps_ms)
    text = f"{len(late_ms)} times, median {median(late_ms):g} ms, p99 {late:.0f} ms, worst {max(late_ms):g} ms; "
    text += f"a step takes {median(steps_ms):.0f} ms, p99 {step:.0f} ms"
    assert min(late_ms) >= 0, "a job ended before its deadline"
    assert max(late_ms) < 1000, text
    assert not many or late <= step, text
    return text


def p99(values: list[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[98]


def steps(store: JobStore, done: list[Job]) -> list[float]:
    """How long the engine's steps took, by the times of what they brought. ms."""
    logs = [[e for e in events.read(store.redis, job.id) if e.name == "token"] for job in done]
    return [events.order(b.id)[0] - events.order(a.id)[0] for log in logs for a, b in zip(log, log[1:], strict=False)]


@pytest.mark.parametrize("token_ms", [20, 400])
def test_jobs_end_at_their_deadlines_and_not_before(worker, submit, store, times, figure, token_ms):
    # Slower steps than a tick, too: a deadline does not wait for the engine.
    worker(slots=8, fake_token_ms=token_ms)
    chance = random.Random(8)
    count = times(10, 200) if token_ms == 20 else times(8, 40)
    jobs = [submit("Hello", 8000, run_timeout_s=chance.uniform(0.2, times(1, 2))) for _ in range(count)]
    late_ms = lateness([ended(store, job, timeout_s=120) for job in jobs])
    figure(f"deadline → end, fake engine, {token_ms} ms a step", judge(late_ms, [float(token_ms)] * 2, count > 100))


@pytest.mark.model
def test_jobs_of_a_real_model_end_at_their_deadlines_and_not_before(real_server, times, figure):
    body = {"model": FAKE_LLM, "prompt": "Once upon a time", "max_tokens": 4000, "ignore_eos": True}
    chance = random.Random(8)
    with store_of(real_server) as store, httpx.Client(base_url=real_server.url, timeout=30) as http:

        def send(timeout_s: float) -> Job:
            sent = http.post("/v1/jobs", json={"endpoint": COMPLETIONS, "body": body, "timeout": timeout_s})
            return there(store, sent.json()["id"])

        jobs = [send(chance.uniform(0.2, times(1, 2))) for _ in range(times(10, 200))]
        done = [ended(store, job, timeout_s=120) for job in jobs]
        steps_ms = steps(store, done)
    figure("deadline → end, real model, 8 at once", judge(lateness(done), steps_ms, len(done) > 100))


# --- where no worker lives


class Api(Server):
    """`npu-proxy api` alone: nobody runs what it accepts."""

    command = ("-m", "cli", "api")

    def until_ready(self, timeout_s: float = 30.0) -> Api:
        until(self.health, timeout_s, "an API that answers")
        return self


@pytest.fixture
def apis(valkey):
    """Two of them on one Redis."""
    servers = [Api(redis_url=valkey.url) for _ in range(2)]
    for server in servers:
        server.start()
    try:
        yield [server.until_ready() for server in servers]
    finally:
        for server in servers:
            closed(server)


def test_a_job_that_no_worker_takes_expires_in_time_though_nobody_looks(apis, store):
    answers = [
        httpx.post(api.url + "/v1/jobs", json={"endpoint": path, "queue_timeout": 0.5, "body": body}, timeout=10)
        for api in apis
        for path, body in (*ENDLESS.items(), *TEXTS.items())
    ]
    jobs = [store.get(answer.json()["id"]) for answer in answers]
    for job in jobs:
        late = ended(store, job)
        assert (late.state, late.error, late.attempt) == ("expired", QUEUE_TIMEOUT, 0)
        assert 0 <= late.ended_ms - late.queue_deadline_ms < 4000
        log = events.read(store.redis, job.id)
        assert [event.name for event in log] == ["status", "done"]
    assert store.depth("llm") == store.depth("embed") == 0


@pytest.mark.parametrize("asked_ms", [0, 2000], ids=["run timeout", "request timeout"])
def test_a_job_that_was_handed_back_and_never_taken_up_fails_a_while_after_its_deadline(
    store, submit, asked_ms
):
    job = submit("Hello", run_timeout_s=60)
    store.pick("llm", False)
    claimed = store.claim("llm", job.id, "a worker", "CPU")
    reaper = Reaper(store, "llm")
    record = keys.job(job.id)
    late_by = 12_000 if asked_ms else 71_000
    store.redis.hset(record, "started_ms", claimed.started_ms - late_by)
    if asked_ms:
        store.redis.hset(record, "deadline_ms", claimed.started_ms - late_by + asked_ms)
    assert store.hand_back(claimed) == "queued"

    reaper.run()

    lost = store.get(job.id)
    assert (lost.state, lost.error.code) == ("failed", "worker_lost")
    assert store.redis.zcard(keys.queue_deadlines("llm")) == 0


def test_a_job_that_was_handed_back_waits_on_until_then(store, submit):
    job = submit("Hello", run_timeout_s=60)
    store.pick("llm", False)
    claimed = store.claim("llm", job.id, "a worker", "CPU")
    store.hand_back(claimed)

    Reaper(store, "llm").run()

    assert store.get(job.id).state == "queued"
    assert store.pick("llm", False) == job.id
    store.claim("llm", job.id, "another", "CPU")
    assert store.redis.zcard(keys.queue_deadlines("llm")) == 0
