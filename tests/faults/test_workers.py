"""Workers that are killed: another one takes their jobs up where Redis says they stood."""

import time
from functools import partial

from jobs import events, keys
from tests.conftest import StartWorker
from tests.faults.conftest import Figure, Times, spread
from tests.support.answers import assert_whole, follow, numbered
from tests.support.readers import Reader
from tests.support.waiting import until
from tests.support.workers import Rules, gone

#: From the death of a worker to the next token of its jobs. Seconds.
LIMIT_S = 10.0


def test_jobs_come_whole_through_every_kill_of_their_worker(
    worker: StartWorker, start_worker, submit, redis, valkey, store, hub, times: Times, figure: Figure
):
    current = worker(slots=4, fake_token_ms=5)
    tokens = times(60, 100)
    recoveries, jobs = [], []
    for n in range(times(3, 200)):
        readers = [Reader(hub, submit("Hello", tokens, detached=True)) for _ in range(3)]
        for reader in readers:
            reader.until_tokens(1 + n % 20)
        engine = current.engine_pid()
        killed = time.time()
        current.kill()
        # At once, as `serve` does.
        current = start_worker(redis, valkey.url, slots=4, fake_token_ms=5)
        until(partial(gone, engine), what="the end of the dead worker's engine")
        for reader in readers:
            assert_whole(reader.log(), tokens)
            done = store.get(reader.job.id)
            assert (done.state, done.attempt, done.crashes) == ("completed", 2, 1)
            assert done.outcome.text == numbered(tokens)
            assert done.outcome.usage.completion_tokens == tokens
        jobs += [reader.job for reader in readers]
        recoveries.append(max(reader.outage_s(killed) for reader in readers))
        assert recoveries[-1] <= LIMIT_S
    for job in jobs:
        assert_whole(events.read(redis, job.id), tokens)
    assert redis.zcard("npu:leases:llm") == 0
    figure("worker SIGKILL", f"{len(jobs)} jobs whole; next token {spread(recoveries)}")


def test_a_worker_of_another_machine_is_known_by_its_lease_to_be_dead(
    start_worker, submit, redis, valkey, store, hub, times: Times, figure: Figure
):
    """Nobody here can tell whether its process lives, so its jobs wait for their leases to run out: 8 s."""
    rules = Rules(lease_ms=times(1_500, Rules.lease_ms), report_ms=times(200, Rules.report_ms))
    recoveries = []
    current = start_worker(redis, valkey.url, rules=rules, slots=4, fake_token_ms=5).until_ready()
    for _ in range(times(1, 20)):
        readers = [Reader(hub, submit("Hello", 200)) for _ in range(2)]
        for reader in readers:
            reader.until_tokens(5)
            redis.hset(keys.job(reader.job.id), "worker", "llm-elsewhere-4026531836-77")
        other = start_worker(redis, valkey.url, rules=rules, slots=4, fake_token_ms=5)
        killed = time.time()
        current.kill()
        for reader in readers:
            assert_whole(reader.log(), 200)
            assert (store.get(reader.job.id).attempt, store.get(reader.job.id).crashes) == (2, 1)
        recoveries.append(max(reader.outage_s(killed) for reader in readers))
        assert rules.lease_ms / 1000 - 1 <= recoveries[-1] <= LIMIT_S
        current = other
    figure("worker elsewhere SIGKILL", f"next token {spread(recoveries)}; the lease is {rules.lease_ms / 1000:g} s")


def test_a_job_that_was_running_at_two_crashes_of_a_worker_fails_with_its_text_so_far(
    worker: StartWorker, submit, store, hub
):
    job = submit("Hello", 8000)
    reader = Reader(hub, job)
    for attempt in (1, 2):
        current = worker(slots=2, fake_token_ms=5)
        reader.until_tokens(reader.tokens + 5)
        assert store.get(job.id).attempt == attempt
        current.kill()
    worker()
    log = reader.log()
    done = store.get(job.id)
    assert_whole(log, done.tokens, "failed")
    assert done.tokens >= 10
    assert (done.error.code, done.crashes, done.attempt) == ("worker_crashed", 2, 2)
    assert log[-1].json()["error"]["code"] == "worker_crashed"
    assert_whole(follow(hub, submit("Hello", 5)), 5)
