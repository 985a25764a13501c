"""Jobs that run to their end, on a real Valkey with a real worker process around the fake engine."""

import base64

import pytest

from engines.base import Sampling
from jobs import events
from jobs.request import GenerateRequest, Terms
from tests.conftest import FAKE_EMBED
from tests.support.answers import assert_whole, follow, numbered
from tests.support.waiting import until


def test_a_job_runs_to_its_end_and_says_how_it_went(worker, submit, store, hub):
    worker()

    job = submit("one two three", max_tokens=20)
    log = follow(hub, job)

    assert_whole(log, 20)
    assert [event.json() for event in log if event.name == "status"] == [
        {"status": "queued"},
        {"status": "in_progress", "device": "CPU"},
    ]
    done = store.get(job.id)
    assert (done.state, done.attempt, done.crashes, done.error) == ("completed", 1, 0, None)
    assert (done.outcome.text, done.outcome.finish_reason) == (numbered(20), "length")
    assert (done.outcome.usage.prompt_tokens, done.outcome.usage.completion_tokens) == (3, 20)
    assert done.created_ms <= done.started_ms <= done.ended_ms
    assert done.tokens == 20


def test_a_model_that_ends_by_itself_ends_with_stop(worker, submit, store, hub):
    worker()
    job = submit("fake:end=4", max_tokens=20)
    assert_whole(follow(hub, job), 4)
    assert store.get(job.id).outcome.finish_reason == "stop"


def test_many_jobs_at_once_each_get_their_own_whole_text(worker, submit, store, hub):
    worker(slots=4)
    jobs = [submit("Hello", max_tokens=10 + n, user=f"user {n}") for n in range(12)]
    for n, job in enumerate(jobs):
        assert_whole(follow(hub, job), 10 + n)
        assert store.get(job.id).outcome.text == numbered(10 + n)


def test_an_embedding_gives_a_vector_for_each_text_in_order(worker, submit_texts, store, hub):
    worker(FAKE_EMBED)
    job, other = submit_texts("one", "two", "one"), submit_texts("two")
    follow(hub, job)
    follow(hub, other)
    first, second, third = store.get(job.id).outcome.vectors
    assert first == third != second
    assert store.get(other.id).outcome.vectors == (second,)
    assert len(base64.b64decode(first)) == 8 * 4


def test_two_workers_share_one_queue_and_each_job_runs_once(worker, submit, store, hub, start_worker, redis, valkey):
    pair = [start_worker(redis, valkey.url, slots=2) for _ in range(2)]
    for each in pair:
        each.until_ready()
    jobs = [submit("Hello", max_tokens=60) for _ in range(8)]
    for job in jobs:
        assert_whole(follow(hub, job), 60)
    records = [store.get(job.id) for job in jobs]
    assert [record.attempt for record in records] == [1] * 8
    assert len({record.worker for record in records}) == 2


def test_a_cancelled_running_job_keeps_its_text_and_frees_its_slot(worker, submit, store, hub):
    worker(slots=1, fake_token_ms=10)
    job = submit("Hello", max_tokens=8000)
    until(lambda: store.get(job.id).tokens >= 3, what="some tokens")

    store.cancel(job)

    log = follow(hub, job, timeout_s=1)
    done = store.get(job.id)
    assert_whole(log, done.outcome.usage.completion_tokens, "cancelled")
    assert done.outcome.text == numbered(done.outcome.usage.completion_tokens) != ""
    assert_whole(follow(hub, submit("Hello", max_tokens=3)), 3)


def test_a_cancelled_queued_job_ends_at_once_and_never_runs(worker, submit, store, hub):
    job = submit("Hello")
    assert store.cancel(job) == "cancelled"
    assert [event.name for event in follow(hub, job)] == ["status", "done"]

    worker()
    follow(hub, submit("Hello"))

    assert (store.get(job.id).state, store.get(job.id).attempt) == ("cancelled", 0)
    assert len(events.read(store.redis, job.id)) == 2


def test_a_cancel_of_a_hung_engine_is_answered_by_its_worker(worker, submit, store, hub):
    worker(slots=2)
    job = submit("fake:hang", max_tokens=5)
    until(lambda: store.get(job.id).state == "in_progress", what="the run")
    store.cancel(job)
    assert follow(hub, job, timeout_s=2)[-1].json()["status"] == "cancelled"


def test_at_its_deadline_a_job_is_incomplete_with_the_text_so_far(worker, submit, store, hub):
    worker(fake_token_ms=10)
    job = submit("Hello", max_tokens=8000, run_timeout_s=0.4)
    log = follow(hub, job)
    done = store.get(job.id)
    count = done.outcome.usage.completion_tokens
    assert count > 5
    assert_whole(log, count, "incomplete")
    assert (done.outcome.text, done.outcome.finish_reason) == (numbered(count), "length")
    assert done.error.code == "deadline"
    assert 400 <= done.ended_ms - done.started_ms < 1_000


def test_a_hung_engine_does_not_keep_a_job_beyond_its_deadline(worker, submit, store, hub):
    worker()
    job = submit("fake:hang", max_tokens=5, run_timeout_s=0.3)
    assert follow(hub, job)[-1].json()["status"] == "incomplete"


def test_a_job_that_waited_too_long_expires_without_running(worker, submit, store, hub):
    job = submit("Hello", queue_timeout_s=0)

    worker()

    log = follow(hub, job)
    assert [event.name for event in log] == ["status", "done"]
    done = store.get(job.id)
    assert (done.state, done.error.code, done.attempt, done.started_ms) == ("expired", "queue_timeout", 0, 0)


def test_a_job_runs_without_an_rq_hash_at_any_time(worker, submit, store, redis, hub):
    job = submit("Hello", max_tokens=200)
    assert redis.keys("rq:job:*") == []
    worker(fake_token_ms=5)
    until(lambda: store.get(job.id).tokens > 20, what="the middle of the run")
    until(lambda: redis.keys("rq:execution:*"), what="RQ's note that it runs")
    assert redis.keys("rq:job:*") == []
    assert_whole(follow(hub, job), 200)
    until(lambda: redis.keys("rq:execution:*") == [], what="the end of the note")
    assert redis.keys("rq:job:*") == []


def test_an_id_that_was_popped_but_never_started_runs_after_all(worker, submit, redis, store, hub):
    job = submit("Hello")
    assert store.pick("llm", False) == job.id
    assert redis.lrange("rq:queue:llm:intermediate", 0, -1) == [job.id]
    worker()
    assert_whole(follow(hub, job), 5)


def test_an_id_that_is_queued_twice_runs_once(worker, submit, store, redis, hub):
    job = submit("Hello", max_tokens=50)
    redis.rpush("rq:queue:llm", job.id)
    worker(slots=2)
    assert_whole(follow(hub, job), 50)
    until(lambda: redis.llen("rq:queue:llm") + redis.llen("rq:queue:llm:intermediate") == 0)
    assert store.get(job.id).attempt == 1
    assert_whole(events.read(redis, job.id), 50)


def test_whatever_finished_jobs_leave_in_redis_expires(worker, submit, store, redis, hub):
    running = worker(fake_token_ms=10)
    jobs = [submit("Hello"), submit("fake:end=2"), submit("Hello", max_tokens=9, run_timeout_s=0.05)]
    cancelled = submit("Hello", max_tokens=8000)
    store.cancel(cancelled)
    for job in [*jobs, cancelled]:
        follow(hub, job)
    running.terminate()

    # RQ's own bookkeeping that grows with the number of queues, not of jobs, stays.
    for key in redis.keys():
        if "job_" in key or "owner" in key or redis.type(key) == "stream":
            assert 0 < redis.ttl(key), key
    assert redis.llen("rq:queue:llm") == redis.llen("rq:queue:llm:intermediate") == 0
    assert redis.zcard("npu:leases:llm") == 0
    # Of the fair order stay one hash an engine kind, and counters, which expire.
    fair = sorted(redis.keys("npu:fair:*"))
    assert fair == [f"npu:fair:llm:counter:interactive:{jobs[0].user_key}", "npu:fair:llm:state"]
    assert 0 < redis.ttl(fair[0])
    lanes = {f"{name}:{lane}" for name in ("last_left", "left_at") for lane in ("interactive", "batch")}
    assert set(redis.hkeys(fair[1])) <= {"waiting", "batch_due", *lanes}
    assert store.depth("llm") == 0


def test_what_the_order_keeps_is_bounded_by_the_jobs_that_wait(submit, store, redis):
    """Also without a worker that takes tokens off the wake list."""
    kept = submit("Hello")
    for n in range(20):
        store.cancel(submit("Hello", user=f"user {n % 3}", lane=("interactive", "batch")[n % 2]))
        job = submit("Hello", queue_timeout_s=0, user=f"user {n % 3}")
        store.expire_if_late("llm", job.id)
    late = [submit("Hello", queue_timeout_s=0) for _ in range(3)]
    store.put_back("llm", store.pick("llm", False))
    assert redis.llen("npu:fair:llm:wake") == store.depth("llm") == 4
    assert redis.blpop("npu:fair:llm:wake") is not None
    assert store.pick("llm", True) == kept.id
    assert redis.llen("npu:fair:llm:wake") == store.depth("llm") == 3
    assert redis.blpop("npu:fair:llm:wake") is not None
    assert store.pick("llm", True) is None
    assert [store.get(job.id).state for job in late] == ["expired"] * 3
    store.cancel(kept)
    left = {key for key in redis.keys("npu:fair:*") if ":counter:" not in key}
    assert left == {"npu:fair:llm:state"}
    assert store.depth("llm") == 0


def test_an_id_that_rq_itself_queues_runs_in_its_turn(worker, submit, store, redis, hub):
    """Its users' command line and its retries put ids at the end of RQ's own list."""
    job = submit("Hello")
    assert store.pick("llm", False) == job.id
    redis.delete("rq:queue:llm:intermediate")
    redis.rpush("rq:queue:llm", job.id, "job_unknown")
    assert store.position(job) is None

    worker()

    assert_whole(follow(hub, job), 5)
    assert redis.llen("rq:queue:llm") == redis.llen("rq:queue:llm:intermediate") == 0
    assert (store.get(job.id).attempt, store.depth("llm")) == (1, 0)


@pytest.mark.parametrize(
    "user", ["*", "job:*", "a\nb\r\n", "npu:job:x", "'; FLUSHALL; --", "\u202e𝕏", "x" * 10_000, " ", "rq:queue:llm"]
)
def test_no_user_name_reaches_any_key_but_the_users_own(submitter, store, redis, user):
    def keys_of(name):
        redis.flushall()
        request = GenerateRequest("/test", "fake-llm", Sampling(5), prompt="Hello")
        job = submitter.prepare(request, Terms(name, owner=name))
        submitter.enqueue(job)
        assert store.get(job.id).user == store.get(job.id).owner == name
        assert [j.id for j in store.list(name, 10)] == [job.id]
        hashed = job.user_key
        assert len(hashed) == 32 and set(hashed) <= set("0123456789abcdef")
        named = [key.replace(job.id, "ID").replace(hashed, "USER") for key in redis.keys() if "owner" not in key]
        assert redis.zrange("npu:fair:llm:users:interactive", 0, -1) == [hashed]
        return sorted(named), hashed, redis.keys("npu:owner:*")

    plain, own_hash, (own,) = keys_of("ann")
    hostile, other_hash, (other,) = keys_of(user)
    assert hostile == plain
    assert {"npu:fair:llm:counter:interactive:USER", "npu:fair:llm:line:interactive:USER"} <= set(plain)
    assert own != other and own_hash != other_hash
    assert len(other) == len(own) and other.isascii()
