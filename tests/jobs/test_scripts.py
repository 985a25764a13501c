"""The scripts that change a job's state, against a small model of what they promise; and each promise by name."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from jobs import events, keys
from jobs import store as store_module
from jobs.connection import connect
from jobs.events import token_data
from jobs.record import FINAL, Job, JobError, Outcome, Usage, new_id
from jobs.store import LEASE_MS, MAX_CRASHES, SIGN_OF_LIFE, JobStore, Tokens, now_ms


def a_job(**changes) -> Job:
    now = now_ms()
    defaults = dict(
        engine="llm", endpoint="/test", model="m", user="ann", task="{}", created_ms=now, run_timeout_ms=60_000
    )
    return Job(id=new_id("job"), **{**defaults, "queue_deadline_ms": now + 60_000, **changes})


@pytest.fixture
def queued(store):
    job = a_job()
    store.create(job)
    return job


def claimed(store, job, worker="w1") -> Job:
    store.redis.lmove("rq:queue:llm", "rq:queue:llm:intermediate")
    attempt = store.claim("llm", job.id, worker, "CPU")
    assert attempt is not None
    return attempt


def publish(store, attempt, tokens=SIGN_OF_LIFE) -> str:
    with store.redis.pipeline(transaction=False) as pipe:
        store.publish(pipe, attempt, tokens)
        return pipe.execute()[0]


def finish(store, attempt, state="completed", outcome=None, error=None) -> int:
    with store.redis.pipeline(transaction=False) as pipe:
        store.finish(pipe, attempt, state, outcome or Outcome("x"), error)
        return pipe.execute()[0]


def word(number: int) -> Tokens:
    return Tokens(number - 1, 1, token_data(f" {number}", [number]))


def everything(redis: Redis, job: Job):
    """All that Redis holds of a job."""
    return redis.hgetall(keys.job(job.id)), events.read(redis, job.id), redis.zscore(keys.leases("llm"), job.id)


def test_a_new_job_is_in_its_queue_with_a_record_a_log_and_its_owners_list(store, queued):
    assert store.get(queued.id) == queued
    assert [e.json() for e in events.read(store.redis, queued.id)] == [{"status": "queued"}]
    assert store.position(queued) == 1
    assert store.depth("llm") == 1
    assert store.list("local", 5) == [queued]


def test_a_claim_starts_the_first_attempt_and_takes_a_lease(store, queued):
    before = now_ms()
    attempt = claimed(store, queued)
    assert (attempt.state, attempt.attempt, attempt.worker, attempt.device) == ("in_progress", 1, "w1", "CPU")
    assert before <= attempt.started_ms <= now_ms()
    lease = store.redis.zscore(keys.leases("llm"), queued.id)
    assert before + LEASE_MS <= lease <= now_ms() + LEASE_MS
    assert store.redis.lrange(keys.popped("llm"), 0, -1) == []


@pytest.mark.parametrize("meanwhile", ["claimed", "cancelled", "finished", "gone"])
def test_there_is_nothing_to_claim_in_a_job_that_does_not_wait(store, queued, meanwhile):
    if meanwhile == "cancelled":
        store.cancel(queued)
    elif meanwhile == "gone":
        store.redis.delete(keys.job(queued.id))
    else:
        attempt = claimed(store, queued)
        if meanwhile == "finished":
            finish(store, attempt)
    before = everything(store.redis, queued)
    assert store.claim("llm", queued.id, "w2", "CPU") is None
    assert everything(store.redis, queued) == before


def test_a_step_that_is_published_twice_is_in_the_log_once(store, queued):
    attempt = claimed(store, queued)
    assert [publish(store, attempt, word(1)), publish(store, attempt, word(2))] == ["ok", "ok"]

    assert publish(store, attempt, word(2)) == "ok"

    assert events.produced(store.redis, queued.id) == (" 1 2", (1, 2))
    assert (store.get(queued.id).published, store.get(queued.id).tokens) == (2, 2)


def test_a_step_of_several_tokens_counts_them_all(store, queued):
    attempt = claimed(store, queued)
    publish(store, attempt, Tokens(0, 3, token_data(" 1 2 3", [1, 2, 3])))
    assert (store.get(queued.id).published, store.get(queued.id).tokens) == (1, 3)


def test_a_sign_of_life_renews_the_lease_and_writes_nothing_else(store, queued):
    attempt = claimed(store, queued)
    store.redis.zadd(keys.leases("llm"), {queued.id: 5})
    record, log, _ = everything(store.redis, queued)
    assert publish(store, attempt) == "ok"
    assert everything(store.redis, queued)[:2] == (record, log)
    assert store.redis.zscore(keys.leases("llm"), queued.id) > now_ms()


def test_an_old_attempt_changes_nothing(store, queued):
    old = claimed(store, queued)
    publish(store, old, word(1))
    assert store.hand_back(old) == "queued"
    for step in ("while queued", "while it runs elsewhere", "after its end"):
        if step == "while it runs elsewhere":
            new = claimed(store, queued, "w2")
        elif step == "after its end":
            finish(store, new)
        before = everything(store.redis, queued)
        assert publish(store, old, word(2)) == "stale"
        assert publish(store, old) == "stale"
        assert finish(store, old) == 0
        assert finish(store, old, "failed", error=JobError("x", "y")) == 0
        assert store.hand_back(old) == "stale"
        assert everything(store.redis, queued) == before, step


def test_an_old_attempt_does_not_count_crashes(store, queued):
    old = claimed(store, queued)
    store.hand_back(old)
    claimed(store, queued)
    assert store.count_crash(old) == 0
    assert store.get(queued.id).crashes == 0


def test_a_crash_under_a_job_that_is_gone_leaves_nothing_behind(store, queued):
    attempt = claimed(store, queued)
    store.redis.delete(keys.job(queued.id))
    assert store.count_crash(attempt) == 0
    assert not store.redis.exists(keys.job(queued.id))


def test_the_end_is_written_once(store, queued):
    attempt = claimed(store, queued)
    outcome = Outcome("text", "stop", Usage(1, 2, 3, 4), ("AAAA",))
    assert [finish(store, attempt, "completed", outcome), finish(store, attempt, "failed")] == [1, 0]
    done = store.get(queued.id)
    assert (done.state, done.outcome, done.error, done.task) == ("completed", outcome, None, "")
    log = events.read(store.redis, queued.id)
    assert [e.name for e in log] == ["status", "status", "done"]
    assert store.redis.zcard(keys.leases("llm")) == 0
    assert 0 < store.redis.ttl(keys.job(queued.id)) <= queued.ttl_s
    assert 0 < store.redis.ttl(keys.events(queued.id)) <= queued.ttl_s


def test_the_last_event_carries_the_error(store, queued):
    attempt = claimed(store, queued)
    error = JobError("engine_crashed", 'It said "no"\n and \u2603')
    finish(store, attempt, "failed", error=error)
    assert store.get(queued.id).error == error
    assert events.read(store.redis, queued.id)[-1].json() == {
        "status": "failed",
        "error": {"code": error.code, "message": error.message},
    }


def test_a_running_job_is_told_of_its_cancel_and_a_requeued_one_ends(store, queued):
    attempt = claimed(store, queued)
    assert store.cancel(queued) == "in_progress"
    assert publish(store, attempt, word(1)) == "cancel"
    assert publish(store, attempt) == "cancel"
    assert store.hand_back(attempt) == "cancelled"
    assert store.get(queued.id).state == "cancelled"
    assert store.cancel(queued) == "cancelled"
    assert [e.name for e in events.read(store.redis, queued.id)].count("done") == 1


def test_a_job_goes_back_to_the_front(store, queued):
    second = a_job()
    store.create(second)
    attempt = claimed(store, queued)
    store.hand_back(attempt)
    assert (store.position(queued), store.position(second)) == (1, 2)


def test_only_a_lapsed_lease_is_reaped(store, queued):
    claimed(store, queued)
    before = everything(store.redis, queued)
    assert store.reap("llm", queued.id) == "stale"
    assert everything(store.redis, queued) == before

    store.redis.zadd(keys.leases("llm"), {queued.id: now_ms() - 1})
    assert store.reap("llm", queued.id) == "queued"
    assert store.get(queued.id).crashes == 1
    assert store.reap("llm", queued.id) == "stale"


def test_the_second_crash_ends_a_job_and_its_text_so_far_can_be_read(store, queued):
    for number in (1, 2):
        attempt = claimed(store, queued)
        publish(store, attempt, word(number))
        store.redis.zadd(keys.leases("llm"), {queued.id: 1})
        state = store.reap("llm", queued.id)
    assert state == "failed"
    done = store.get(queued.id)
    assert (done.crashes, done.error.code) == (MAX_CRASHES, "worker_crashed")
    assert events.produced(store.redis, queued.id)[0] == " 1 2"


def test_the_queue_timeout_counts_for_the_first_run_only(store):
    late = a_job(queue_deadline_ms=now_ms() - 1)
    store.create(late)
    assert store.claim("llm", late.id, "w", "CPU") is None
    assert store.get(late.id).state == "expired"

    job = a_job()
    store.create(job)
    store.hand_back(claimed(store, job))
    store.redis.hset(keys.job(job.id), "queue_deadline_ms", 1)
    assert store.expire_if_late(job.engine, job.id) == "queued"
    assert claimed(store, job).attempt == 2


def test_a_job_that_waits_in_time_does_not_expire(store, queued):
    assert store.expire_if_late(queued.engine, queued.id) == "queued"
    claimed(store, queued)
    assert store.expire_if_late(queued.engine, queued.id) == "in_progress"


def test_the_first_start_counts_for_the_deadline(store, queued):
    first = claimed(store, queued)
    store.redis.hset(keys.job(queued.id), "started_ms", 12345)
    store.hand_back(first)
    assert claimed(store, queued).run_deadline_ms == 12345 + 60_000


def test_a_popped_id_is_put_back_only_while_its_job_waits(store, queued):
    assert store.put_back("llm", queued.id) is False
    store.redis.lmove("rq:queue:llm", "rq:queue:llm:intermediate")
    assert store.put_back("llm", queued.id) is True
    assert store.position(queued) == 1
    claimed(store, queued)
    store.redis.lpush(keys.popped("llm"), queued.id)
    assert store.put_back("llm", queued.id) is False
    assert (store.position(queued), store.redis.llen(keys.popped("llm"))) == (None, 0)


@pytest.mark.parametrize("call", ["get", "cancel", "expire_if_late", "claim", "hand_back", "reap", "publish", "finish"])
def test_a_job_that_never_was_leaves_no_trace(store, call):
    ghost = a_job()
    if call == "publish":
        publish(store, ghost)
    elif call == "finish":
        finish(store, ghost)
    elif call == "get":
        assert store.get(ghost.id) is None
    elif call == "claim":
        assert store.claim("llm", ghost.id, "w", "CPU") is None
    elif call in ("expire_if_late", "reap"):
        getattr(store, call)("llm", ghost.id)
    else:
        getattr(store, call)(ghost)
    assert store.redis.keys() == []


@pytest.mark.parametrize("text", ["", "job_", "job_x", "*", "job_" + "a" * 23 + "\n", "job_" + "é" * 24, "npu:job:x"])
def test_what_is_no_id_of_ours_is_not_looked_up(store, text):
    assert store.get(text) is None


def test_an_owners_jobs_are_listed_newest_first_a_page_at_a_time(store):
    start = now_ms()
    jobs = [a_job(owner="ann", created_ms=start + n) for n in range(7)]
    for job in jobs:
        store.create(job)
    store.create(a_job(owner="bob"))
    newest_first = [job.id for job in reversed(jobs)]
    first = store.list("ann", 3)
    rest = store.list("ann", 10, before=first[-1].id)
    assert [job.id for job in [*first, *rest]] == newest_first
    for job_id in newest_first[:4]:
        store.redis.delete(keys.job(job_id))
    assert [job.id for job in store.list("ann", 3)] == newest_first[4:]


# --- any sequence of calls


@dataclass
class Model:
    """What the scripts promise, in Python."""

    queue_deadline: int
    state: str = "queued"
    attempt: int = 0
    published: int = 0
    tokens: int = 0
    crashes: int = 0
    cancel: bool = False
    lease: int | None = None
    names: list[str] = field(default_factory=lambda: ["status"])

    def end(self, state: str) -> str:
        self.state, self.lease = state, None
        self.names.append("done")
        return state

    def claim(self, now: int) -> bool:
        if self.state != "queued":
            return False
        if self.attempt == 0 and self.queue_deadline <= now:
            self.end("expired")
            return False
        self.state, self.attempt, self.lease = "in_progress", self.attempt + 1, now + LEASE_MS
        self.names.append("status")
        return True

    def holds(self, attempt: int) -> bool:
        return self.state == "in_progress" and attempt == self.attempt

    def publish(self, now: int, attempt: int, tokens: Tokens) -> str:
        if not self.holds(attempt):
            return "stale"
        if tokens.data and tokens.before == self.published:
            self.published += 1
            self.tokens += tokens.count
            self.names.append("token")
        self.lease = now + LEASE_MS
        return "cancel" if self.cancel else "ok"

    def finish(self, attempt: int, state: str) -> int:
        if not self.holds(attempt):
            return 0
        self.end(state)
        return 1

    def cancel_it(self) -> str:
        if self.state == "queued":
            return self.end("cancelled")
        self.cancel = self.cancel or self.state == "in_progress"
        return self.state

    def expire(self, now: int) -> str:
        if self.state == "queued" and self.attempt == 0 and self.queue_deadline <= now:
            return self.end("expired")
        return self.state

    def requeue(self, crash: bool) -> str:
        if self.cancel:
            return self.end("cancelled")
        self.crashes += crash
        if crash and self.crashes >= MAX_CRASHES:
            return self.end("failed")
        self.state, self.lease = "queued", None
        self.names.append("status")
        return "queued"

    def hand_back(self, attempt: int) -> str:
        return self.requeue(False) if self.holds(attempt) else "stale"

    def reap(self, now: int) -> str:
        lapsed = self.state == "in_progress" and (self.lease is None or self.lease <= now)
        return self.requeue(True) if lapsed else "stale"


CALLS = st.one_of(
    st.tuples(st.just("claim")),
    st.tuples(st.just("publish"), st.integers(1, 3), st.integers(0, 4), st.integers(0, 3)),
    st.tuples(st.just("finish"), st.integers(1, 3), st.sampled_from(sorted(FINAL))),
    st.tuples(st.sampled_from(["cancel", "expire", "reap"])),
    st.tuples(st.just("hand_back"), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.sampled_from([1, LEASE_MS, 30_000])),
)


@settings(max_examples=150, deadline=None)
@given(calls=st.lists(CALLS, max_size=25))
def test_after_any_calls_in_any_order_a_job_is_what_the_model_says(shared_valkey, calls):
    clock = [1_000_000]
    real = store_module.now_ms
    store_module.now_ms = lambda: clock[0]
    try:
        with connect(shared_valkey.url) as redis:
            store = JobStore(redis)
            store.load_scripts()
            compare(store, clock, calls)
    finally:
        store_module.now_ms = real


def compare(store: JobStore, clock: list[int], calls) -> None:
    job = a_job(queue_deadline_ms=clock[0] + 60_000)
    store.create(job)
    model = Model(job.queue_deadline_ms)
    for name, *args in calls:
        now = clock[0]
        attempt = replace(job, attempt=args[0]) if args and name in ("publish", "finish", "hand_back") else job
        was_final = model.state in FINAL
        if name == "wait":
            clock[0] += args[0]
        elif name == "claim":
            assert (store.claim("llm", job.id, "w", "CPU") is not None) == model.claim(now)
        elif name == "publish":
            tokens = Tokens(args[1], args[2], token_data("x", [1] * args[2]) if args[2] else "")
            assert publish(store, attempt, tokens) == model.publish(now, args[0], tokens)
        elif name == "finish":
            assert finish(store, attempt, args[1]) == model.finish(args[0], args[1])
        elif name == "cancel":
            assert store.cancel(job) == model.cancel_it()
        elif name == "expire":
            assert store.expire_if_late(job.engine, job.id) == model.expire(now)
        elif name == "reap":
            assert store.reap("llm", job.id) == model.reap(now)
        elif name == "hand_back":
            assert store.hand_back(attempt) == model.hand_back(args[0])
        record = store.get(job.id)
        log = events.read(store.redis, job.id)
        assert record is not None
        seen = (record.state, record.attempt, record.published, record.tokens, record.crashes, record.cancel)
        assert seen == (model.state, model.attempt, model.published, model.tokens, model.crashes, model.cancel)
        assert [event.name for event in log] == model.names
        assert store.redis.zscore(keys.leases("llm"), job.id) == model.lease
        assert (store.redis.ttl(keys.job(job.id)) > 0) == (model.state in FINAL)
        # The invariants themselves, whatever the model thinks.
        assert model.names.count("done") == (model.state in FINAL)
        assert not was_final or model.names[-1] == "done"
