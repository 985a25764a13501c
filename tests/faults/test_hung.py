"""Engines that no longer answer are killed, and their other jobs go on; one that is only slow is left alone."""

import signal
import time

import psutil
import pytest

from tests.conftest import StartWorker
from tests.faults.conftest import Figure, Times, spread
from tests.support.answers import assert_whole, follow
from tests.support.readers import Reader
from tests.support.waiting import until
from tests.support.workers import Rules, gone

#: What an engine gets to drop a task. Seconds.
GRACE_S = 1.0
#: Beyond that: an engine is looked at every second. Seconds.
LATE_S = 2.0


@pytest.fixture
def rules(times: Times) -> Rules:
    return Rules(engine_grace_s=GRACE_S, report_ms=times(200, Rules.report_ms))


def until_killed(pid: int, since: float) -> float:
    """Wait for the end of the engine; how long after that moment it came. Seconds."""
    until(lambda: gone(pid), what="the end of the hung engine")
    killed_s = time.monotonic() - since
    assert killed_s <= GRACE_S + LATE_S
    return killed_s


def test_an_engine_that_hangs_is_killed_a_grace_after_the_deadline_and_its_other_jobs_go_on(
    worker: StartWorker, rules: Rules, submit, store, hub, times: Times, figure: Figure
):
    running = worker(rules=rules, slots=4, fake_token_ms=5)
    kills = []
    for _ in range(times(1, 20)):
        engine = running.engine_pid()
        others = [Reader(hub, submit("Hello", 100)) for _ in range(2)]
        for reader in others:
            reader.until_tokens(2)
        bad = submit("fake:hang", 9, run_timeout_s=0.3)
        assert follow(hub, bad)[-1].json()["status"] == "incomplete"
        kills.append(until_killed(engine, time.monotonic()))
        for reader in others:
            assert_whole(reader.log(), 100)
    figure("engine hangs", f"killed after its job's deadline: {spread(kills)}; the grace is {GRACE_S:g} s")


def test_an_engine_that_hangs_at_a_cancel_is_killed_and_its_other_jobs_go_on(
    worker: StartWorker, rules: Rules, submit, store, hub, times: Times, figure: Figure
):
    running = worker(rules=rules, slots=4, fake_token_ms=5)
    kills = []
    for _ in range(times(1, 20)):
        engine = running.engine_pid()
        unwanted, *others = [Reader(hub, submit("Hello", 100)) for _ in range(3)]
        for reader in (unwanted, *others):
            reader.until_tokens(2)
        psutil.Process(engine).send_signal(signal.SIGSTOP)
        store.cancel(unwanted.job)
        assert unwanted.log()[-1].json() == {"status": "cancelled"}
        kills.append(until_killed(engine, time.monotonic()))
        for reader in others:
            assert_whole(reader.log(), 100)
    figure("engine hangs at a cancel", f"killed after it: {spread(kills)}; the grace is {GRACE_S:g} s")


def test_an_engine_amid_a_long_step_is_not_killed(worker: StartWorker, rules: Rules, submit, store, hub):
    """Shorter than the grace: it drops a task as soon as the step is over."""
    running = worker(rules=rules, slots=4, fake_token_ms=400)
    engine = running.engine_pid()
    unwanted, late, other = submit("Hello", 100), submit("Hello", 100, run_timeout_s=0.6), submit("Hello", 6)
    reader = Reader(hub, other)
    reader.until_tokens(1)
    store.cancel(unwanted)
    assert follow(hub, unwanted)[-1].json()["status"] == "cancelled"
    assert follow(hub, late)[-1].json()["status"] == "incomplete"
    assert_whole(reader.log(), 6)
    assert running.engine_pid() == engine
    assert store.get(other.id).crashes == 0
