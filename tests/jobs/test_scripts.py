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
from scheduler.fairness import COMPLETION_COST, PROMPT_COST


def a_job(**changes) -> Job:
    now = now_ms()
    defaults = dict(
        engine="llm", endpoint="/test", model="m", user="ann", task="{}", created_ms=now, run_timeout_ms=60_000
    )
    values = {**defaults, "queue_deadline_ms": now + 60_000, **changes}
    return Job(id=new_id("job"), user_key=keys.user_key(values["user"]), **values)


@pytest.fixture
def queued(store):
    job = a_job()
    store.create(job)
    return job


def claimed(store, job, worker="w1") -> Job:
    assert store.pick("llm", False) == job.id
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


def counter(store, job) -> float:
    """What the job's user was charged in its lane."""
    return float(store.redis.get(f"{keys.fair('llm')}:counter:{job.lane}:{job.user_key}"))


def test_a_new_job_is_in_its_queue_with_a_record_a_log_and_its_owners_list(store, queued):
    assert store.get(queued.id) == queued
    assert [e.json() for e in events.read(store.redis, queued.id)] == [{"status": "queued"}]
    assert store.position(queued) == 1
    assert store.depth("llm") == 1
    assert store.list("local", 5) == [queued]
    assert store.redis.keys("rq:*") == [], "RQ learns of a job when it is picked"


def test_a_job_too_many_leaves_no_trace(store, queued):
    before = sorted(store.redis.keys())
    assert store.create(a_job(), max_queued=1).verdict == "queue_full"
    assert sorted(store.redis.keys()) == before
    assert (store.depth("llm"), len(store.list("local", 5))) == (1, 1)
    claimed(store, queued)
    assert store.create(a_job(), max_queued=1).accepted


def test_a_pick_takes_the_next_job_once_and_changes_nothing_that_a_reader_sees(store, queued):
    before = store.get(queued.id), events.read(store.redis, queued.id)
    assert store.pick("llm", False) == queued.id
    assert store.redis.lrange(keys.popped("llm"), 0, -1) == [queued.id]
    assert (store.position(queued), store.depth("llm")) == (None, 0)
    assert (store.get(queued.id), events.read(store.redis, queued.id)) == before
    assert store.pick("llm", False) is None


def test_a_prompt_is_paid_when_picked_and_once_and_an_answer_as_it_is_published(store):
    job = a_job(prompt_tokens=7, weight=2.0)
    store.create(job)
    assert counter(store, job) == 0
    store.pick("llm", False)
    assert counter(store, job) == 3.5
    assert store.put_back("llm", job.id)
    attempt = claimed(store, job)
    assert counter(store, job) == 3.5
    publish(store, attempt, word(1))
    publish(store, attempt, word(1))
    publish(store, attempt)
    assert counter(store, job) == 4.5
    store.hand_back(attempt)
    publish(store, attempt, word(2))
    assert claimed(store, job).tokens == 1
    assert counter(store, job) == 4.5


def test_users_take_turns_by_the_tokens_they_were_served(store):
    ann = [a_job(user="ann", prompt_tokens=10) for _ in range(4)]
    bob = [a_job(user="bob", prompt_tokens=25) for _ in range(2)]
    for job in [*ann, *bob]:
        store.create(job)
    first = store.pick("llm", False)
    order = [first, *(store.pick("llm", False) for _ in range(5))]
    # Equal counters go by (hashed) name; then who was served less is next.
    either = [[ann[0], bob[0], ann[1], ann[2], bob[1], ann[3]], [bob[0], ann[0], ann[1], ann[2], bob[1], ann[3]]]
    assert order in [[job.id for job in jobs] for jobs in either]


def test_interactive_jobs_go_before_batch_jobs(store):
    batch, interactive = a_job(lane="batch"), a_job()
    store.create(batch)
    store.create(interactive)
    assert (store.position(interactive), store.position(batch)) == (1, 2)
    assert [store.pick("llm", False) for _ in range(2)] == [interactive.id, batch.id]


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


def test_a_crash_reported_twice_counts_once(store, queued):
    attempt = claimed(store, queued)
    assert [store.count_crash(attempt, name) for name in ("first", "first", "second")] == [1, 1, 2]


def test_a_submit_that_is_sent_twice_is_one_job(store, queued):
    assert store.create(queued).accepted
    assert (store.depth("llm"), len(events.read(store.redis, queued.id))) == (1, 1)


def test_a_submit_that_is_sent_again_does_not_bring_a_finished_job_back(store, queued):
    finish(store, claimed(store, queued))
    assert store.create(queued).accepted
    assert (store.get(queued.id).state, store.pick("llm", False)) == ("completed", None)


@pytest.mark.parametrize("requeued", [False, True])
def test_a_job_whose_worker_never_came_back_ends_well_after_its_run_deadline(store, requeued):
    job = a_job(run_timeout_ms=-20_000)
    store.create(job)
    attempt = claimed(store, job)
    if requeued:
        store.hand_back(attempt)
    assert store.expire_if_late("llm", job.id) == "failed"
    assert (store.get(job.id).error.code, store.depth("llm")) == ("worker_lost", 0)


def test_an_old_attempt_does_not_count_crashes(store, queued):
    old = claimed(store, queued)
    store.hand_back(old)
    claimed(store, queued)
    assert store.count_crash(old, "first") == 0
    assert store.get(queued.id).crashes == 0


def test_a_crash_under_a_job_that_is_gone_leaves_nothing_behind(store, queued):
    attempt = claimed(store, queued)
    store.redis.delete(keys.job(queued.id))
    assert store.count_crash(attempt, "first") == 0
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
    late = a_job(queue_deadline_ms=now_ms() - 1, prompt_tokens=9)
    store.create(late)
    assert store.pick("llm", False) is None
    done = store.get(late.id)
    assert (done.state, done.error, done.attempt) == ("expired", store_module.QUEUE_TIMEOUT, 0)
    assert [event.name for event in events.read(store.redis, late.id)] == ["status", "done"]
    assert store.claim("llm", late.id, "w", "CPU") is None
    assert (counter(store, late), store.redis.zcard(keys.queue_deadlines("llm"))) == (0, 0)
    assert not store.redis.exists(keys.popped("llm"))

    job = a_job()
    store.create(job)
    store.hand_back(claimed(store, job))
    store.redis.hset(keys.job(job.id), "queue_deadline_ms", 1)
    assert store.expire_if_late(job.engine, job.id) == "queued"
    assert claimed(store, job).attempt == 2


def test_a_job_that_was_picked_in_time_is_claimed_in_time(store, queued):
    assert store.pick("llm", False) == queued.id
    store.redis.hset(keys.job(queued.id), "queue_deadline_ms", 1)
    assert store.claim("llm", queued.id, "w", "CPU").state == "in_progress"


def test_a_late_job_does_not_keep_the_next_one_waiting(store):
    late, job = a_job(queue_deadline_ms=now_ms() - 1), a_job()
    store.create(late)
    store.create(job)
    assert store.pick("llm", False) == job.id
    assert store.get(late.id).state == "expired"


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
    assert store.pick("llm", False) == queued.id
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


def test_an_owners_list_is_about_as_long_as_there_are_jobs_to_read(store):
    for _ in range(30):
        job = a_job(owner="ann")
        store.create(job)
        store.redis.delete(keys.job(job.id))  # As when its time is up.
    assert store.redis.zcard(keys.owned_jobs("ann")) <= 2
    kept = [a_job(owner="ann") for _ in range(5)]
    for job in kept:
        store.create(job)
    assert set(store.redis.zrange(keys.owned_jobs("ann"), 0, -1)) == {job.id for job in kept}


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
    #: Whether it is in its line, how often in RQ's intermediate list, and what its user was charged.
    waits: bool = True
    popped: int = 0
    charged: int = 0
    cost: int = 0
    names: list[str] = field(default_factory=lambda: ["status"])

    def end(self, state: str) -> str:
        self.state, self.lease, self.waits = state, None, False
        self.names.append("done")
        return state

    def pick(self, now: int) -> bool:
        if not self.waits:
            return False
        if self.attempt == 0 and self.queue_deadline <= now:
            self.end("expired")
            return False
        if not self.charged:
            self.charged, self.cost = 1, PROMPT_COST * PROMPT_TOKENS
        self.waits, self.popped = False, self.popped + 1
        return True

    def claim(self, now: int) -> bool:
        self.popped = max(0, self.popped - 1)
        if self.state != "queued":
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
            self.cost += COMPLETION_COST * tokens.count
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
        self.state, self.lease, self.waits = "queued", None, True
        self.names.append("status")
        return "queued"

    def put_back(self) -> bool:
        if not self.popped:
            return False
        self.popped -= 1
        if self.state == "queued":
            self.waits = True
        return self.state == "queued"

    def hand_back(self, attempt: int) -> str:
        return self.requeue(False) if self.holds(attempt) else "stale"

    def reap(self, now: int) -> str:
        lapsed = self.state == "in_progress" and (self.lease is None or self.lease <= now)
        return self.requeue(True) if lapsed else "stale"


PROMPT_TOKENS = 5

CALLS = st.one_of(
    st.tuples(st.just("pick"), st.booleans()),
    # What a slot does; and a slot that was stopped in between, or a reaper.
    st.tuples(st.sampled_from(["pick and claim", "claim", "put back"])),
    st.tuples(st.just("submit too many")),
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
    store.redis.flushall()
    job = a_job(queue_deadline_ms=clock[0] + 60_000, prompt_tokens=PROMPT_TOKENS)
    assert store.create(job, max_queued=1).accepted
    model = Model(job.queue_deadline_ms)
    for name, *args in calls:
        now = clock[0]
        attempt = replace(job, attempt=args[0]) if args and name in ("publish", "finish", "hand_back") else job
        was_final = model.state in FINAL
        if name == "wait":
            clock[0] += args[0]
        elif name == "pick":
            picked = store.pick("llm", args[0] and store.redis.lpop(f"{keys.fair('llm')}:wake") is not None)
            assert picked == (job.id if model.pick(now) else None)
        elif name == "claim":
            if model.waits:
                continue  # Nobody claims what was not picked.
            assert (store.claim("llm", job.id, "w", "CPU") is not None) == model.claim(now)
        elif name == "pick and claim":
            assert store.pick("llm", False) == (job.id if model.pick(now) else None)
            if not model.waits:
                assert (store.claim("llm", job.id, "w", "CPU") is not None) == model.claim(now)
        elif name == "put back":
            assert store.put_back("llm", job.id) == model.put_back()
        elif name == "submit too many":
            assert not store.create(a_job(), max_queued=0).accepted
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
        assert (store.position(job) == 1, store.depth("llm")) == (model.waits, int(model.waits))
        assert store.redis.lrange(keys.popped("llm"), 0, -1) == [job.id] * model.popped
        assert counter(store, job) == model.cost
        assert (store.redis.ttl(keys.job(job.id)) > 0) == (model.state in FINAL)
        # The invariants themselves, whatever the model thinks.
        assert model.names.count("done") == (model.state in FINAL)
        assert not was_final or model.names[-1] == "done"
        assert store.redis.llen(f"{keys.fair('llm')}:wake") <= store.depth("llm")
