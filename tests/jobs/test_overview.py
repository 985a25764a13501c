"""The queue as it is shown: users, running jobs, and who is next."""

from engines.base import Sampling
from jobs import overview, reports
from jobs.events import token_data
from jobs.overview import LANES, MOST_USERS, NEXT_JOBS
from jobs.reports import Report
from jobs.request import GenerateRequest, Terms
from jobs.store import Tokens
from scheduler.limits import UserLimits


def run_next(store):
    """Start the next job of the order."""
    return store.claim("llm", store.pick("llm", False), "w", "CPU")


def publish(store, job, tokens):
    """The first tokens of a job, so many in one event."""
    with store.redis.pipeline(transaction=False) as pipe:
        store.publish(pipe, job, Tokens(0, tokens, token_data("x", [1] * tokens)))
        pipe.execute()


def look(store):
    [seen] = overview.read(store.redis, ["llm"])
    return seen


def test_an_engine_without_workers_or_jobs_is_empty(store):
    seen = look(store)
    assert (seen.workers, seen.running, seen.waiting, seen.newcomer_wait_s) == ((), 0, 0, None)
    assert (seen.users, seen.running_jobs, seen.next_jobs, seen.more_users) == ((), (), (), 0)


def test_users_are_shown_with_what_waits_runs_and_was_served(store, submit):
    submit("one two three", user="ann")
    publish(store, run_next(store), tokens=7)
    for name, lane in (("ann", "interactive"), ("ann", "interactive"), ("bob", "interactive"), ("cron", "batch")):
        submit("one", user=name, lane=lane)
    reports.write(store.redis, Report("w", "llm", "m", "ready", slots=1, running=1, run_s=4.0))

    seen = look(store)
    assert (seen.slots, seen.running, seen.waiting) == (1, 1, 4)
    assert seen.waiting_by_lane == {"interactive": 3, "batch": 1}
    assert [(u.user, u.lane, u.waiting, u.running, u.tokens) for u in seen.users] == [
        ("ann", "interactive", 2, 1, 7),
        ("bob", "interactive", 1, 0, 0),
        ("cron", "batch", 1, 0, 0),
    ]
    # Bob came while ann waited, and was lifted to her counter.
    assert [u.counter for u in seen.users] == [0, 0, 0]
    [running] = seen.running_jobs
    assert (running.user, running.tokens) == ("ann", 7)
    assert 0 <= running.elapsed_s < 10
    # Before a newcomer run one of ann's and one of bob's; then, on one slot, they wait for their own to come.
    assert seen.newcomer_wait_s == 12.0


def test_a_counter_is_told_beside_the_least_of_its_lane(store, submit):
    submit("one", user="ann")
    submit("one", user="ann")
    submit("one", user="bob")
    publish(store, first := run_next(store), tokens=10)
    other = {"ann": "bob", "bob": "ann"}[first.user]
    served = {user.user: user.counter for user in look(store).users}
    assert served == {first.user: 1 + 2 * 10, other: 0}


def test_the_next_jobs_are_each_users_in_turn_and_batch_behind_them(store, submit):
    late = submit(user="cron", lane="batch")
    queued = [submit(user=name) for name in ("ann", "ann", "bob")]
    shown = [job.id for job in look(store).next_jobs]
    assert sorted(shown[:2]) == sorted([queued[0].id, queued[2].id])
    assert shown[2:] == [queued[1].id, late.id]


def test_a_user_who_may_run_no_more_is_shown_with_what_waits(store, submitter):
    for lane in LANES:
        request = GenerateRequest("/test", "fake-llm", Sampling(5), prompt="Hello", param="prompt")
        store.create(submitter.prepare(request, Terms("ann", lane=lane)), user=UserLimits(max_running=1))
    run_next(store)
    seen = look(store)
    assert [(u.user, u.lane, u.waiting, u.running) for u in seen.users] == [
        ("ann", "interactive", 0, 1),
        ("ann", "batch", 1, 0),
    ]
    assert seen.waiting_by_lane == {"interactive": 0, "batch": 1}
    assert seen.next_jobs == ()


def test_of_many_users_some_are_shown_those_with_running_jobs_among_them(store, submit):
    submit(user="served")
    job = run_next(store)
    submit(user="served")
    for n in range(MOST_USERS + 5):
        submit(user=f"user {n}")
        submit(user=f"user {n}", lane="batch")
    publish(store, job, tokens=100)  # So all others come before that user.
    seen = look(store)
    for lane in LANES:
        assert len([user for user in seen.users if user.lane == lane]) == MOST_USERS
    assert "served" in {user.user for user in seen.users}
    assert seen.more_users == 6 + 5
    assert len(seen.next_jobs) == NEXT_JOBS
    assert seen.waiting_by_lane == {"interactive": MOST_USERS + 6, "batch": MOST_USERS + 5}


def test_looking_reads_no_more_when_more_wait(store, submit):
    def bytes_read() -> int:
        before = store.redis.info("stats")["total_net_output_bytes"]
        look(store)
        return store.redis.info("stats")["total_net_output_bytes"] - before

    for n in range(MOST_USERS):
        for _ in range(NEXT_JOBS):
            submit(user=f"user {n}")
    few = bytes_read()
    for n in range(MOST_USERS):
        for _ in range(20):
            submit("a long prompt " * 100, user=f"user {n}")
    assert bytes_read() < few * 1.2
