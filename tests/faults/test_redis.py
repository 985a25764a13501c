"""Redis dies, stays away, stands still or is full under a server that is in use."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from redis import Redis
from redis.exceptions import RedisError

from jobs.connection import ANSWER_TIMEOUT_S, connect
from tests.api.bodies import BODIES, error_of
from tests.e2e.numbered import fault
from tests.e2e.servers import Server, closed
from tests.faults.conftest import spread
from tests.faults.traffic import (
    CHAT,
    EventReader,
    OpenStream,
    Traffic,
    a_job,
    all_jobs,
    assert_ended_whole,
    chat,
    client_of,
    read_chat,
    state,
    until_ended,
)
from tests.support.answers import assert_whole
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.support.workers import end, gone

#: One for each endpoint of the engines that run here.
REQUESTS = {path: body for path, body in BODIES.items() if path != "/v1/rerank"}

#: What an answer may take where Redis is away; a machine that does much else gets more of it in the short form.
AT_ONCE_S = 1.0
#: From Redis' first PONG until all is as before.
BACK_S = 5.0


@pytest.fixture
def patience(request: pytest.FixtureRequest) -> float:
    """By what times are multiplied: the short form runs on machines that do much else."""
    return 1.0 if request.config.getoption("--full", False) else 4.0


@pytest.fixture(scope="module")
def valkey_of_one() -> Iterator[Valkey]:
    """A Redis that keeps what was written, for tests that kill or stop it and leave it well again."""
    valkey = Valkey(durable=True)
    yield valkey
    valkey.stop()


@pytest.fixture(scope="module")
def served(valkey_of_one: Valkey) -> Iterator[Server]:
    """A server on it."""
    server = Server(redis_url=valkey_of_one.url, fake_token_ms=10, keepalive_s=0.3).start()
    try:
        yield server.until_ready()
    finally:
        valkey_of_one.resume()
        closed(server)


def until_pong(url: str) -> float:
    """When it answered first."""
    with Redis.from_url(url, socket_timeout=1) as client:

        def pong() -> bool:
            try:
                return bool(client.ping())
            except RedisError:
                return False

        until(pong, 60, "a PONG")
    return time.monotonic()


def until_served(server: Server) -> None:
    """Wait until a new chat is answered."""
    with client_of(server) as http:
        until(lambda: http.post(CHAT, json=chat(3)).status_code == 200, 30, "an answer")


def kill(server: Server, traffic: Traffic) -> tuple[float, float]:
    """kill -9 the embedded Redis; how long after its first PONG a new chat was answered, and all streams went on."""
    [redis] = server.pids("valkey-server")
    streams = traffic.open_streams()
    end(redis)
    until(lambda: gone(redis))
    back = until_pong(f"unix://{server.data_dir}/redis/redis.sock")
    until_served(server)
    answered_s = time.monotonic() - back
    until(lambda: all(stream.over or stream.heard_at > back for stream in streams), 30, "streams that go on")
    return answered_s, max([0.0, *(stream.went_on_at(back) - back for stream in streams)])


def test_killed_under_load_redis_comes_back_and_nothing_is_lost(times, figure, patience):
    server = Server(fake_token_ms=10).start()
    try:
        server.until_ready()
        traffic = Traffic(server)
        found = []
        for _ in range(times(2, 20)):
            traffic.until_flowing(60)
            found.append(kill(server, traffic))
        traffic.until_flowing()
        traffic.stop()
        traffic.assert_nothing_lost()
    finally:
        closed(server)
    answered, resumed = zip(*found, strict=True)
    refused = [refusal.took_s for refusal in traffic.refusals]
    figure("Redis kill -9: first new chat after PONG", spread(answered))
    figure("Redis kill -9: all open streams go on after PONG", spread(resumed))
    figure("Redis kill -9: promises kept", f"{len(traffic.promised)} jobs, {len(traffic.streams)} streams, 0 lost")
    if refused:
        figure("Redis kill -9: a 503 took", spread(refused))
    assert max(*answered, *resumed) < BACK_S * patience
    assert max(refused, default=0) < AT_ONCE_S * patience
    assert all(refusal.retry_after for refusal in traffic.refusals), traffic.refusals


Answers = dict[str, tuple[httpx.Response, float]]


def asked(server: Server, job_id: str) -> Answers:
    """The answer of each path that needs Redis, and how long it took."""
    paths: list[tuple[str, str, Any]] = [("POST", path, body) for path, body in REQUESTS.items()]
    paths += [("POST", path, {**REQUESTS[path], "stream": True}) for path in (CHAT, "/api/generate")]
    job = f"/v1/jobs/{job_id}"
    paths += [("GET", path, None) for path in ("/v1/jobs", job, f"{job}/events", "/health", "/health/readiness")]
    paths += [("DELETE", job, None)]
    found: Answers = {}
    with client_of(server) as http:
        for method, path, body in paths:
            sent = time.monotonic()
            answer = http.request(method, path, json=body)
            found[f"{method} {path} {len(found)}"] = answer, time.monotonic() - sent
    return found


def assert_refused(answers: Answers) -> None:
    """Each is a 503 that says when to come again."""
    for path, (answer, _) in answers.items():
        assert answer.status_code == 503, (path, answer.text)
        if "/health" not in path:
            assert int(answer.headers["Retry-After"]) > 0, path
            assert "away" in error_of(answer)["message"], path


def begun(server: Server, job_id: str) -> EventReader:
    """A reader of a job's events that has read some."""
    reader = EventReader(server.url, job_id).start()
    until(lambda: len(reader.log) > 10, what="the stream's beginning")
    return reader


def test_while_redis_is_away_every_path_says_so_at_once_and_open_streams_wait(
    served, valkey_of_one, times, figure, patience
):
    took, back_s = [], []
    for _ in range(times(1, 5)):
        job_id = httpx.post(served.url + "/v1/jobs", json=a_job(200)).json()["id"]
        reader = begun(served, job_id)
        valkey_of_one.kill()
        answers = asked(served, job_id)
        assert_refused(answers)
        took += [took_s for _, took_s in answers.values()]
        for path in ("/health/liveness", "/v1/models", "/api/tags", "/api/version", "/"):
            assert httpx.get(served.url + path).status_code == 200
        time.sleep(times(0, 9))  # Longer than a lease.
        valkey_of_one.start()
        back = until_pong(valkey_of_one.url)
        until_served(served)
        back_s.append(time.monotonic() - back)
        assert_whole(reader.join(), 200)
        assert reader.openings == 1
    figure("Redis away: a 503 took", spread(took))
    figure("Redis away: first new chat after PONG", spread(back_s))
    assert max(took) < AT_ONCE_S * patience
    assert max(back_s) < BACK_S * patience


def test_a_redis_that_stands_still_costs_a_caller_seconds_and_loses_nothing(
    served, valkey_of_one, times, figure, patience
):
    """It takes connections and answers nothing: only a time limit tells."""
    took, rounds_s = [], []
    for _ in range(times(1, 5)):
        promised = [httpx.post(served.url + "/v1/jobs", json=a_job(100)).json()["id"] for _ in range(3)]
        reader = begun(served, promised[0])
        valkey_of_one.pause()
        paused = time.monotonic()
        with ThreadPoolExecutor(4) as clients:
            found = list(clients.map(lambda job_id: asked(served, job_id), promised[:1] * 4))
        rounds_s.append(time.monotonic() - paused)
        valkey_of_one.resume()
        for answers in found:
            assert_refused(answers)
            took += [took_s for _, took_s in answers.values()]
        until_served(served)
        reader.join()  # Its DELETE was answered with 503 and may yet be done: it need not be whole.
        with client_of(served) as http:
            for job_id in promised[1:]:
                assert_ended_whole(http, job_id, 100)
            for job_id in all_jobs(http):
                until_ended(http, job_id)
    figure("Redis stopped: a 503 took", spread(took))
    figure("Redis stopped: 4 clients, 15 requests each", spread(rounds_s))
    assert max(took) < (ANSWER_TIMEOUT_S + AT_ONCE_S) * patience


def test_work_whose_acceptance_nobody_heard_of_is_not_done(served, valkey_of_one):
    """Redis has the request in its buffer when it stops, and carries it out when it wakes up."""
    with client_of(served) as http:

        def unheard() -> set[str]:
            """The job of a request that Redis had when it stopped; none if the API met the silence before."""
            http.post(CHAT, json=chat(1))  # So that the workers' reports need not be read again first.
            before = set(all_jobs(http))
            valkey_of_one.pause()
            assert http.post("/v1/jobs", json=a_job(2000)).status_code == 503
            valkey_of_one.resume()
            until(lambda: http.get("/v1/jobs").status_code == 200, what="an answer")
            return set(all_jobs(http)) - before

        [job_id] = until(unheard, 60, "a job that nobody knows of")
        assert until_ended(http, job_id) == "cancelled"


def test_who_leaves_while_redis_is_away_is_not_worked_for_when_it_is_back(served, valkey_of_one):
    server = served
    notices = server.log.count("lost the event connection")
    with httpx.stream("POST", server.url + CHAT, json=chat(1500, stream=True), timeout=30) as response:
        job_id = response.headers["X-NPU-Proxy-Job"]
        next(response.iter_lines())
        valkey_of_one.kill()
    until(lambda: server.log.count("lost the event connection") > notices, what="notice of Redis' end")
    valkey_of_one.start()
    with client_of(server) as http:
        until(lambda: http.get(f"/v1/jobs/{job_id}").status_code == 200)
        until(lambda: state(http, job_id) == "cancelled", what="the cancel")


def test_over_http_a_full_redis_refuses_new_jobs_in_words_and_all_else_works(served, valkey_of_one, times, figure):
    count = times(1, 10)
    with connect(valkey_of_one.url) as redis, client_of(served) as http:
        for _ in range(count):
            fill_and_empty(served, redis, http)
        assert "Redis is full" in served.log
        assert http.get("/health").json()["engines"]["llm"]["waiting"] == 0
        assert all(until_ended(http, job) in ("completed", "cancelled") for job in all_jobs(http))
    figure("Redis full: new jobs refused, running ones", f"{2 * count} ended whole, {count} cancelled")


def fill_and_empty(server: Server, redis: Redis, http: httpx.Client) -> None:
    """With a stream, a job and its reader at work: no room, then room again."""
    reader = EventReader(server.url, http.post("/v1/jobs", json=a_job(300)).json()["id"]).start()
    other = http.post("/v1/jobs", json=a_job(8000)).json()["id"]
    with httpx.stream("POST", server.url + CHAT, json=chat(300, stream=True), timeout=30) as response:
        stream = OpenStream(response.headers["X-NPU-Proxy-Job"])
        until(lambda: len(reader.log) > 5, what="the stream's beginning")
        redis.config_set("maxmemory", "1mb")
        for path, body in REQUESTS.items():
            assert_told_of_memory(http.post(path, json=body))
        until(lambda: http.get("/health").json()["engines"]["llm"]["running"], what="what the workers say")
        assert http.get("/health").json()["status"] == "ok"
        assert http.delete(f"/v1/jobs/{other}").status_code == 200
        until(lambda: state(http, other) == "cancelled", what="the cancel")
        read_chat(response, stream)
    assert (fault(stream.pieces, 300), stream.last) == (None, "data: [DONE]")
    assert_whole(reader.join(), 300)
    redis.config_set("maxmemory", 0)
    assert http.post(CHAT, json=chat(3)).status_code == 200


def assert_told_of_memory(answer: httpx.Response) -> None:
    assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True)
    assert "x-should-retry" not in answer.headers
    error = error_of(answer)
    assert "memory is full" in error["message"]
    assert error.get("code", "out_of_memory") == "out_of_memory"


class Impatient(Server):
    command = ("-m", "tests.faults.programs.impatient", "serve")


def test_a_job_whose_caller_was_told_that_it_may_still_run_does(own_valkey):
    server = Impatient(redis_url=own_valkey.url, fake_token_ms=20).start()
    try:
        server.until_ready()
        with ThreadPoolExecutor(1) as caller, connect(own_valkey.url) as redis:
            answer = caller.submit(httpx.post, server.url + CHAT, json=chat(300), timeout=30)
            until(lambda: redis.zcard("npu:leases:llm"), what="the job's start")
            own_valkey.kill()
            told = answer.result()
        assert (told.status_code, told.headers["x-should-retry"]) == (503, "false")
        [job_id] = [word for word in error_of(told)["message"].split() if word.startswith("job_")]
        own_valkey.start()

        def job() -> dict[str, Any]:
            found = httpx.get(f"{server.url}/v1/jobs/{job_id}", timeout=10)
            return found.json() if found.status_code == 200 else {}

        until(lambda: job().get("ended_at"), 60, "the job's end")
        ended = job()
        assert ended["status"] == "completed"
        assert fault([ended["result"]["choices"][0]["message"]["content"]], 300) is None
    finally:
        closed(server)
