"""Limits of a user, on jobs: what is refused before it is queued, and what waits."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from engines.base import Sampling
from jobs import keys
from jobs.errors import QueueFull, QuotaUsedUp, UserQueueFull
from jobs.request import GenerateRequest, Terms
from jobs.submit import Limits, Submitter
from scheduler.limits import UserLimits
from tests.conftest import MODELS
from tests.jobs.test_scripts import a_job, claimed, finish, publish, word

PROMPT = GenerateRequest("/x", "fake-llm", Sampling(7), prompt="one two three", param="prompt")


def left_of(store, user="ann"):
    """Tokens that the user's minute has been charged."""
    seconds = store.redis.hgetall(keys.minute(keys.user_key(user)))
    return sum(int(count) for second, count in seconds.items() if second.startswith("t"))


def picked(store) -> list[str]:
    """All that free slots would take now."""
    ids = []
    while (job_id := store.pick("llm", False)) is not None:
        ids.append(job_id)
    return ids


# --- what is refused


def test_a_users_queue_is_full_for_that_user_only(store):
    two = UserLimits(max_queued=2)
    assert [store.create(a_job(), user=two).verdict for _ in range(3)] == ["ok", "ok", "user_queue_full"]
    assert store.create(a_job(user="bob"), user=two).accepted
    assert store.depth("llm") == 3


def test_both_lanes_count_for_a_users_queue(store):
    two = UserLimits(max_queued=2)
    store.create(a_job(lane="batch"), user=two)
    store.create(a_job(), user=two)
    assert store.create(a_job(lane="batch"), user=two).verdict == "user_queue_full"


def test_a_job_that_is_refused_leaves_no_trace(store):
    one = UserLimits(requests_per_minute=1)
    store.create(a_job(), user=one)
    before = set(store.redis.keys())
    assert store.create(a_job(), user=one).verdict == "requests"
    assert set(store.redis.keys()) == before
    assert store.depth("llm") == 1


@pytest.mark.parametrize("limits", [UserLimits(requests_per_minute=25), UserLimits(tokens_per_minute=250)])
def test_a_quota_is_exact_however_many_ask_at_once(store, limits):
    jobs = [a_job(reserved_tokens=10) for _ in range(100)]
    with ThreadPoolExecutor(16) as many:
        told = list(many.map(lambda job: store.create(job, user=limits).accepted, jobs))
    assert sum(told) == 25
    assert store.depth("llm") == 25


def test_several_of_a_users_jobs_share_a_quota_over_all_engines(store):
    one = UserLimits(requests_per_minute=1)
    assert store.create(a_job(engine="llm"), user=one).accepted
    assert not store.create(a_job(engine="embed"), user=one).accepted


def test_a_submit_that_is_sent_twice_is_counted_once(store):
    job, ten = a_job(reserved_tokens=10), UserLimits(requests_per_minute=10, tokens_per_minute=100)
    assert store.create(job, user=ten).accepted
    assert store.create(job, user=ten).accepted
    assert left_of(store) == 10


@pytest.mark.parametrize(
    ("limits", "error", "text"),
    [
        (UserLimits(max_queued=1), UserQueueFull, "1 of your jobs are waiting"),
        (UserLimits(requests_per_minute=1), QuotaUsedUp, "1 requests a minute. Try again in 6"),
        (UserLimits(tokens_per_minute=15), QuotaUsedUp, "may need 10 .* 5 are left. Try again in 6"),
    ],
)
def test_a_refusal_says_which_limit_it_is_and_when_to_come_again(submitter, limits, error, text):
    terms = Terms("ann", limits=limits)
    submitter.enqueue(submitter.prepare(PROMPT, terms), limits)
    with pytest.raises(error, match=text):
        submitter.enqueue(submitter.prepare(PROMPT, terms), limits)


def test_a_request_beyond_a_whole_minute_is_told_so(submitter):
    limits = UserLimits(tokens_per_minute=9)
    with pytest.raises(QuotaUsedUp, match="may need 10 .*shorter answer") as refusal:
        submitter.enqueue(submitter.prepare(PROMPT, Terms("ann", limits=limits)), limits)
    assert refusal.value.retry_after_s == 0


def test_the_servers_own_limit_counts_for_everybody(store):
    submitter = Submitter(store, MODELS, Limits(max_queued=1), lambda: ())
    submitter.enqueue(submitter.prepare(PROMPT, Terms("ann")))
    with pytest.raises(QueueFull, match="1 jobs are waiting"):
        submitter.enqueue(submitter.prepare(PROMPT, Terms("bob")))


# --- what is given back


def test_what_a_job_did_not_use_of_its_tokens_is_given_back_at_its_end(store):
    store.create(a_job(reserved_tokens=100, prompt_tokens=5), user=UserLimits(tokens_per_minute=100))
    [job_id] = picked(store)
    attempt = store.claim("llm", job_id, "w", "CPU")
    publish(store, attempt, word(1))
    assert left_of(store) == 100
    finish(store, attempt)
    assert left_of(store) == 6


def test_a_job_that_never_ran_gives_all_its_tokens_back(store):
    job = a_job(reserved_tokens=100, prompt_tokens=5)
    store.create(job, user=UserLimits(tokens_per_minute=100))
    store.cancel(job)
    assert left_of(store) == 0


# --- what waits


def test_a_user_runs_no_more_jobs_at_a_time_than_allowed_and_others_pass_by(store):
    two, jobs = UserLimits(max_running=2), [a_job() for _ in range(4)]
    for job in jobs:
        store.create(job, user=two)
    other = a_job(user="bob")
    store.create(other)
    assert sorted(picked(store)) == sorted([jobs[0].id, other.id, jobs[1].id])
    attempt = store.claim("llm", jobs[0].id, "w", "CPU")
    finish(store, attempt)
    assert picked(store) == [jobs[2].id]


@pytest.mark.parametrize("how", ["finish", "cancel", "hand back", "reap", "put back", "expire"])
def test_whatever_becomes_of_a_running_job_its_place_is_free_again(store, how):
    job, one = a_job(run_timeout_ms=0), UserLimits(max_running=1)
    store.create(job, user=one)
    if how == "put back":
        assert picked(store) == [job.id]
        assert store.put_back("llm", job.id)
    else:
        attempt = claimed(store, job)
        match how:
            case "finish":
                finish(store, attempt)
            case "cancel":
                store.cancel(job)
                assert publish(store, attempt) == "cancel"
                finish(store, attempt, "cancelled")
            case "hand back":
                assert store.hand_back(attempt) == "queued"
            case "reap":
                store.redis.zadd(keys.leases("llm"), {job.id: 0})
                assert store.reap("llm", job.id) == "queued"
            case "expire":
                store.redis.hset(keys.job(job.id), "started_ms", 1)
                assert store.expire_if_late("llm", job.id) == "failed"
    assert store.redis.keys(f"{keys.fair('llm')}:running:*") == []
    new = a_job()
    store.create(new, user=one)
    assert len(picked(store)) == 1


def test_a_slot_that_sleeps_is_woken_when_a_users_next_job_may_run(store):
    one = UserLimits(max_running=1)
    first, second = a_job(), a_job()
    store.create(first, user=one)
    attempt = claimed(store, first)
    store.create(second, user=one)
    wake = f"{keys.fair('llm')}:wake"
    assert store.redis.lpop(wake) is not None  # A slot wakes, finds nothing that may run, and sleeps again.
    assert store.pick("llm", True) is None
    assert store.redis.lpop(wake) is None
    finish(store, attempt)
    assert store.redis.lpop(wake) is not None
    assert store.pick("llm", True) == second.id


def test_a_limit_that_is_lowered_counts_from_the_next_request_on(store):
    jobs = [a_job() for _ in range(4)]
    for job in jobs[:3]:
        store.create(job, user=UserLimits(max_running=3))
    assert len([store.pick("llm", False) for _ in range(2)]) == 2
    store.create(jobs[3], user=UserLimits(max_running=1))
    assert picked(store) == []
    store.create(a_job(), user=UserLimits())
    assert len(picked(store)) == 3


def test_a_picked_job_that_is_cancelled_frees_its_place(store):
    one, job = UserLimits(max_running=1), a_job()
    store.create(job, user=one)
    assert picked(store) == [job.id]
    assert store.cancel(job) == "cancelled"
    store.create(replace(a_job(), prompt_tokens=1), user=one)
    assert len(picked(store)) == 1


def test_an_id_that_rq_queues_again_while_it_waits_or_runs_takes_no_further_place(store):
    two, jobs = UserLimits(max_running=2), [a_job() for _ in range(4)]
    for job in jobs:
        store.create(job, user=two)
    store.redis.lpush(keys.waiting("llm"), jobs[0].id)
    attempt = store.claim("llm", str(store.pick("llm", False)), "w", "CPU")
    assert (attempt.id, store.depth("llm")) == (jobs[0].id, 3)
    store.redis.lpush(keys.waiting("llm"), jobs[0].id)
    assert picked(store) == [jobs[1].id]
    assert store.depth("llm") == 2


def test_who_has_as_many_running_as_they_may_is_held_back_and_not_told_when_it_ends(store):
    one, jobs = UserLimits(max_running=1), [a_job() for _ in range(2)]
    for job in jobs:
        store.create(job, user=one)
    attempt = claimed(store, jobs[0])
    assert (store.position(jobs[1]), store.may_run(jobs[1])) == (1, False)
    finish(store, attempt)
    assert store.may_run(jobs[1])


def test_no_limit_is_kept_of_a_user_of_whom_nothing_waits_or_runs(store):
    limits = f"{keys.fair('llm')}:max_running"
    jobs = [a_job(user=f"user {n}") for n in range(3)]
    for job in jobs:
        store.create(job, user=UserLimits(max_running=1))
    assert store.redis.hlen(limits) == 3
    store.cancel(jobs[0])
    assert store.redis.hlen(limits) == 2
    for job_id in picked(store):
        held = store.claim("llm", job_id, "w", "CPU")
        assert store.hand_back(held) == "queued"
    assert store.redis.hlen(limits) == 2
    for job_id in picked(store):
        finish(store, store.claim("llm", job_id, "w", "CPU"))
    assert store.redis.hlen(limits) == 0
