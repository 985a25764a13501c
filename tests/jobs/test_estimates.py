"""How long a job will wait, told from how long jobs ran lately."""

import pytest

from jobs import keys, reports
from jobs.reports import Report, estimated_wait_s, mean_run_s
from tests.support.answers import follow
from tests.support.waiting import until


def worker_of(slots: int, running: int, run_s: float = 0.0, state: str = "ready", engine: str = "llm") -> Report:
    return Report("w", engine, "m", state, slots=slots, running=running, run_s=run_s)  # type: ignore[arg-type]


BUSY = worker_of(1, 1, 10.0)


@pytest.mark.parametrize(
    ("workers", "position", "wait_s"),
    [
        ([BUSY], 1, 10.0),
        ([BUSY], 3, 30.0),
        ([worker_of(4, 4, 10.0)], 1, 2.5),
        ([worker_of(4, 4, 10.0)], 4, 10.0),
        # Two workers at their own speed: 1/10 + 4/10 jobs a second.
        ([BUSY, worker_of(4, 4, 10.0)], 5, 10.0),
        # A free slot for each job up to this one.
        ([worker_of(4, 2, 10.0)], 2, 0.0),
        ([worker_of(4, 2, 10.0)], 3, 2.5),
        ([BUSY, worker_of(1, 0)], 1, 0.0),
        # More attempts than slots is as good as all slots taken.
        ([worker_of(1, 2, 10.0)], 1, 10.0),
        # Of a worker that has ended no job yet nothing is known.
        ([worker_of(1, 1)], 1, None),
        ([BUSY, worker_of(8, 8)], 1, 10.0),
        # Only ready workers of its own kind take it.
        ([], 1, None),
        ([worker_of(1, 1, 10.0, "restarting")], 1, None),
        ([worker_of(8, 0, 10.0, "loading"), BUSY], 1, 10.0),
        ([worker_of(8, 0, 10.0, engine="embed")], 1, None),
    ],
)
def test_a_wait_is_the_position_over_the_pace_of_the_workers(workers, position, wait_s):
    assert estimated_wait_s(workers, "llm", position) == (None if wait_s is None else pytest.approx(wait_s))


def test_who_has_counted_the_running_jobs_is_believed_more_than_the_reports():
    assert estimated_wait_s([worker_of(1, 0, 10.0)], "llm", 1, running=1) == 10.0
    assert estimated_wait_s([BUSY], "llm", 1, running=0) == 0.0


def test_the_mean_of_runs_begins_with_the_first_and_follows_the_newest_slowly():
    assert mean_run_s(0.0, 10.0) == 10.0
    assert mean_run_s(10.0, 20.0) == pytest.approx(12.0)


def test_a_worker_reports_how_long_its_jobs_ran(worker, submit, hub):
    started = worker(fake_token_ms=20, slots=1)
    assert started.report().run_s == 0
    follow(hub, submit(max_tokens=10))
    first_s = until(lambda: started.report().run_s, what="a report of the first run")
    assert 0.2 <= first_s < 10

    follow(hub, submit(max_tokens=50))
    mean_s = until(lambda: (now_s := started.report().run_s) != first_s and now_s, what="a report of the second run")
    assert first_s < mean_s < 10


def test_a_report_of_a_newer_version_can_be_read(redis):
    reports.write(redis, Report("w", "llm", "m", "ready"))
    text = redis.get(keys.worker("w"))
    redis.set(keys.worker("w"), text.replace('"run_s": 0.0', '"colour": "green"'))
    assert reports.read_all(redis) == [Report("w", "llm", "m", "ready")]
