"""A client that leaves takes its job off the real model, whatever the job was doing and however the client left."""

from __future__ import annotations

import random
import socket
import time
from statistics import median

import httpx
import pytest

from cli.settings import Settings
from jobs.record import Job
from tests.e2e.servers import FAKE_LLM, Server, closed
from tests.faults.callers import CHAT, WAYS, Caller, ended, made, store_of
from tests.faults.conftest import spread
from tests.support.waiting import until

#: From the leaving to the job's end: a look at the socket (0.25 s), a look at the record (0.1 s), and room.
NOTICED_S = 0.6
#: What a machine that does other things too may take.
BUSY_MACHINE_S = 3.0
ENDLESS = {"max_tokens": 7000, "ignore_eos": True}
#: About 3,000 tokens, which take this model more than a dozen steps.
LONG = [{"role": "user", "content": "word " * 3000}]


@pytest.fixture(scope="module")
def real():
    """The real model, one job at a time, so that a job that waits shows when the device is free."""
    server = Server(backend="genai", llm_model=FAKE_LLM, embed_model="", llm_slots=1, keepalive_s=60)
    for folder in ("models", "cache"):
        if (there := Settings().data_dir / folder).exists():
            (server.data_dir / folder).symlink_to(there)
    server.start()
    try:
        yield server.until_ready(120)
    finally:
        closed(server)


@pytest.fixture
def store(real):
    with store_of(real) as store:
        yield store


@pytest.fixture
def call(real):
    """Sends a chat: `call("name", stream=True)`."""
    callers: list[Caller] = []

    def send(name: str, **body) -> Caller:
        callers.append(Caller(real, name, **{**ENDLESS, **body}))
        return callers[-1]

    yield send
    for caller in callers:
        caller.close()


@pytest.fixture
def hand_in(real, store):
    """Hands in a job that goes on without a client; cancelled in the end."""
    jobs: list[str] = []

    def send(**body) -> str:
        chat = {"model": FAKE_LLM, "messages": [{"role": "user", "content": "x"}], "ignore_eos": True, **body}
        sent = httpx.post(real.url + "/v1/jobs", json={"endpoint": CHAT, "body": chat}, timeout=30)
        jobs.append(sent.json()["id"])
        return jobs[-1]

    yield send
    for job_id in jobs:
        httpx.delete(f"{real.url}/v1/jobs/{job_id}")
        ended(store, store.get(job_id))


def runs(job: Job) -> bool:
    return job.state == "in_progress"


def noticed_s(caller: Caller, job: Job) -> float:
    """From a client's leaving to its job's end."""
    assert job.state == "cancelled"
    return (job.ended_ms - caller.left_ms) / 1000


def assert_soon(seconds: list[float], limit_s: float) -> None:
    """Most within the limit, and none much later: the machine may be busy with something else for once."""
    assert max(seconds) < BUSY_MACHINE_S, seconds
    assert len(seconds) < 10 or median(seconds) <= limit_s, seconds


@pytest.mark.model
def test_who_leaves_the_queue_takes_a_job_along_that_never_ran(call, hand_in, store, times, figure):
    # Given a device that is taken, and clients that wait for it, every other for a stream
    before = hand_in(max_tokens=7000)
    until(lambda: store.get(before).state == "in_progress", what="a device that is taken")
    callers = [call(f"queued {n}", stream=n % 2 == 0) for n in range(times(3, 100))]
    jobs = [caller.job(store, lambda job: job.state == "queued") for caller in callers]
    # When they leave in turn
    took = []
    for n, (caller, job) in enumerate(zip(callers, jobs, strict=True)):
        caller.leave(WAYS[n % 3])
        gone = ended(store, job)
        # Then each job ends, and none has run
        assert (gone.started_ms, gone.attempt) == (0, 0)
        took.append(noticed_s(caller, gone))
    assert_soon(took, NOTICED_S)
    assert store.depth("llm") == 0
    figure("client leaves the queue → job cancelled", spread(took))


@pytest.mark.model
def test_who_leaves_in_a_long_prefill_frees_the_device_within_a_step(call, hand_in, store, times, figure):
    chance = random.Random(3)
    took, free = [], []
    for n in range(times(2, 100)):
        # Given a prompt of which the device reads, and a job that waits for it
        caller = call(f"prefill {n}", messages=LONG, stream=n % 2 == 0)
        job = caller.job(store, runs)
        waits = store.get(hand_in(max_tokens=1))
        # When the client leaves, at any point of a step
        time.sleep(chance.uniform(0, 0.3))
        caller.leave(WAYS[n % 3])
        # Then the job ends without a token, and the one that waited has its first
        gone = ended(store, job)
        assert made(gone) == 0, "the prefill was over before the client left"
        took.append(noticed_s(caller, gone))
        following = ended(store, waits)
        assert following.state == "completed" and following.outcome is not None
        first_ms = following.started_ms + following.outcome.usage.prompt_ms
        free.append((first_ms - caller.left_ms) / 1000)
    figure("client leaves a prefill → job cancelled", spread(took))
    figure("client leaves a prefill → next job's first token", spread(free))
    assert_soon(took, NOTICED_S)
    assert_soon(free, 2 * NOTICED_S)


@pytest.mark.model
@pytest.mark.parametrize("streams", [True, False], ids=["stream", "call"])
def test_who_leaves_while_the_model_writes_is_not_written_to_the_end(call, store, times, figure, streams):
    took, wasted = [], []
    for n in range(times(2, 100)):
        caller = call(f"writes {streams} {n}", stream=streams)
        job = caller.job(store, lambda job: job.tokens > 5)
        caller.leave(WAYS[n % 3])
        had = store.get(job.id).tokens
        gone = ended(store, job)
        took.append(noticed_s(caller, gone))
        wasted.append(made(gone) - had)
        assert made(gone) < 500  # Of the 7000 it asked for.
    kind = "stream" if streams else "call"
    figure(f"client leaves a {kind} → job cancelled", spread(took))
    figure(f"client leaves a {kind} → tokens made for nobody", f"median {median(wasted):g}, most {max(wasted)}")
    assert_soon(took, NOTICED_S)


@pytest.mark.model
def test_a_client_that_closes_only_the_half_that_sends_has_left(call, store):
    caller = call("half", stream=True)
    job = caller.job(store, lambda job: job.tokens > 5)
    caller.leave("half")
    rest = caller.rest()
    assert ended(store, job).state == "cancelled"
    assert b"[DONE]" not in rest


class Impatient(Server):
    """`npu-proxy serve` whose API lets a client go that takes nothing for a second."""

    command = ("-m", "tests.faults.programs.impatient", "serve")


@pytest.fixture(scope="module")
def impatient():
    server = Impatient(fake_token_ms=1, llm_slots=8, embed_model="", api_threads=20).start()
    try:
        yield server.until_ready()
    finally:
        closed(server)


@pytest.mark.parametrize("how", WAYS)
def test_who_leaves_behind_bytes_that_nobody_reads_has_left(impatient, how):
    caller = Caller(impatient, f"chatty {how}", max_tokens=8000)
    try:
        with store_of(impatient) as store:
            job = caller.job(store, lambda job: job.tokens > 0)
            caller.socket.sendall(b"\r\n")
            caller.leave(how)
            assert noticed_s(caller, ended(store, job)) < BUSY_MACHINE_S
    finally:
        caller.close()


def test_clients_that_stop_reading_are_let_go_with_their_jobs_and_places(impatient):
    # Given as many clients as there are places, none of which reads
    callers = [Caller(impatient, f"deaf {n}", window_bytes=2048, stream=True, max_tokens=8000) for n in range(4)]
    try:
        with store_of(impatient) as store:
            jobs = [caller.job(store, lambda job: job.tokens > 0) for caller in callers]
            # Then their jobs are cancelled, though their connections are open
            states = [ended(store, job).state for job in jobs]
        assert states == ["cancelled"] * 4
        # And their places are free at once for those who read
        chat = {"model": FAKE_LLM, "messages": [{"role": "user", "content": "x"}], "max_tokens": 5}
        assert httpx.post(impatient.url + CHAT, json=chat, timeout=BUSY_MACHINE_S).status_code == 200
    finally:
        for caller in callers:
            caller.close()


def test_clients_that_do_not_hang_up_keep_nobody_waiting(impatient):
    # Given clients that were told that the connection closes, and do not close theirs
    lingering = []
    try:
        for _ in range(5):
            lingering.append(socket.create_connection(("127.0.0.1", impatient.port), timeout=10))
            lingering[-1].sendall(b"GET /health/liveness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        for client in lingering:
            while client.recv(65536):
                pass
        # Then the next is answered without delay
        asked = time.monotonic()
        assert httpx.get(impatient.url + "/health/liveness", timeout=10).status_code == 200
        assert time.monotonic() - asked < 1
    finally:
        for client in lingering:
            client.close()
