"""Workers that stand still for longer than their lease: when they wake up, others have their jobs."""

import signal
import time
from functools import partial

import psutil

from jobs import events
from tests.faults.conftest import Figure, Times
from tests.support.answers import assert_whole, numbered
from tests.support.readers import Reader
from tests.support.waiting import until
from tests.support.workers import Rules, Worker


def is_stopped(sleeper: Worker) -> bool:
    return psutil.Process(sleeper.pid).status() == psutil.STATUS_STOPPED


def is_free(sleeper: Worker) -> bool:
    report = sleeper.report()
    return report is not None and report.running == 0


def test_a_stopped_worker_that_wakes_up_changes_nothing(
    start_worker, submit, redis, valkey, store, hub, times: Times, figure: Figure
):
    """The sleepers have what their engines made before and during their sleep still to write, and believe that the jobs
    are theirs."""
    count, sleep_s, tokens = times(1, 20), times(0, 30), times(100, 400)
    rules = Rules(lease_ms=times(1_000, Rules.lease_ms), report_ms=times(200, Rules.report_ms))
    sleepers = [start_worker(redis, valkey.url, rules=rules, slots=1, fake_token_ms=50) for _ in range(count)]
    for sleeper in sleepers:
        sleeper.until_ready()
    readers = [Reader(hub, submit("Hello", tokens, user=f"user {n}")) for n in range(count)]
    for reader in readers:
        reader.until_tokens(3)
    for sleeper in sleepers:
        sleeper.process.send_signal(signal.SIGSTOP)
    for sleeper in sleepers:
        until(partial(is_stopped, sleeper), what="its stop")
    wake_at = time.monotonic() + sleep_s
    before = {reader.job.id: store.get(reader.job.id).published for reader in readers}

    start_worker(redis, valkey.url, rules=rules, slots=count, fake_token_ms=100 if count > 1 else 10).until_ready()
    for reader in readers:
        reader.until_tokens(before[reader.job.id] + 1)
    until(lambda: time.monotonic() >= wake_at, 60, "the end of the sleep")
    running = sum(store.get(reader.job.id).state == "in_progress" for reader in readers)
    for sleeper in sleepers:
        sleeper.process.send_signal(signal.SIGCONT)

    for reader in readers:
        assert_whole(reader.log(120), tokens)
        statuses = [event.json()["status"] for event in reader.log() if event.name == "status"]
        assert statuses == ["queued", "in_progress", "queued", "in_progress"]
        assert store.get(reader.job.id).outcome.text == numbered(tokens)
        assert store.get(reader.job.id).attempt == 2
    # They have let go of the jobs, and take others.
    for sleeper in sleepers:
        until(partial(is_free, sleeper), 60, "a sleeper's free slot")
    for each in [Reader(hub, submit("Hello", 20)) for _ in range(2 * count)]:
        assert_whole(each.log(), 20)
    for reader in readers:
        assert_whole(events.read(redis, reader.job.id), tokens)
    figure("worker SIGSTOP", f"{count} stopped for {sleep_s} s ({running} woke while their job ran): 0 stale writes")
