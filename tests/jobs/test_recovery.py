"""Whatever dies, an accepted job ends once, and its text has neither a gap nor a repeat. See tests/faults too."""

from engines.base import Sampling
from jobs import events, keys, recovery
from jobs.config import WorkerConfig
from jobs.connection import connect
from jobs.host import EngineHost
from jobs.request import GenerateRequest, Terms
from jobs.runner import Slot, enter
from jobs.store import JobStore
from jobs.submit import Limits, Submitter
from jobs.worker import EngineWorker
from scheduler.queue import engine_queue
from tests.conftest import FAKE_EMBED, FAKE_LLM, MODELS
from tests.jobs.test_scripts import claimed, publish, word
from tests.support.answers import assert_whole, follow, numbered
from tests.support.slots import as_worker
from tests.support.waiting import until


def in_the_middle(store, job, tokens=5):
    until(lambda: store.get(job.id).tokens >= tokens, what="a job in the middle of its answer")


def ended(store, job):
    record = store.get(job.id)
    return record is not None and record.final


def test_a_job_that_was_running_at_two_engine_crashes_fails_with_its_text_so_far(worker, submit, store, hub):
    running = worker(slots=2, fake_token_ms=5)
    job = submit("Hello", max_tokens=8000)
    in_the_middle(store, job)

    running.until_new_engine(running.crash_engine())
    before = store.get(job.id).tokens
    in_the_middle(store, job, before + 5)
    running.until_new_engine(running.crash_engine())

    log = follow(hub, job)
    done = store.get(job.id)
    assert_whole(log, done.outcome.usage.completion_tokens, "failed")
    assert (done.error.code, done.crashes) == ("engine_crashed", 2)
    assert done.outcome.text == numbered(done.outcome.usage.completion_tokens) != ""
    assert log[-1].json()["error"]["code"] == "engine_crashed"
    # The worker itself goes on.
    assert_whole(follow(hub, submit("Hello", max_tokens=5)), 5)


def test_a_job_that_crashes_every_engine_does_not_take_others_with_it(worker, submit, store, hub):
    worker(slots=1)
    bad, good = submit("fake:crash", max_tokens=9), submit("Hello", max_tokens=30)
    log = follow(hub, bad)
    assert_whole(log, 2, "failed")
    assert store.get(bad.id).outcome.text == " 1 2"
    assert_whole(follow(hub, good), 30)


def test_two_bad_jobs_one_after_the_other_do_not_end_those_beside_them(worker, submit, store, hub):
    """The first crash counts for all it hit, until it is known whose it was."""
    worker(slots=4, fake_token_ms=5)
    others = [submit("Hello", max_tokens=600) for _ in range(2)]
    for _ in range(2):
        in_the_middle(store, others[0])
        bad = submit("fake:crash", max_tokens=9)
        assert_whole(follow(hub, bad), 2, "failed")
        until(lambda: [store.get(job.id).crashes for job in others] == [0, 0], what="the others' acquittal")
    for job in others:
        assert_whole(follow(hub, job), 600)


def test_a_job_that_crashes_every_engine_ends_alone(worker, submit, store, hub):
    """After a crash those it hit run one by one until each has shown that it is not the cause."""
    worker(slots=4, fake_token_ms=5)
    others = [submit("Hello", max_tokens=150) for _ in range(3)]
    in_the_middle(store, others[-1])
    bad = submit("fake:crash", max_tokens=9)
    follow(hub, bad)
    assert store.get(bad.id).error.code == "engine_crashed"
    for job in others:
        assert_whole(follow(hub, job), 150)
        assert store.get(job.id).crashes == 0


def test_a_job_that_a_crash_hit_goes_on_while_others_keep_the_engine_busy(worker, submit, store, hub):
    """It need not wait for their ends, which would be for ever where there is always another."""
    first = worker(slots=2, fake_token_ms=5)
    busy, leaving = [submit("Hello", max_tokens=8000) for _ in range(2)]
    in_the_middle(store, busy)
    in_the_middle(store, leaving)
    second = worker(slots=2, fake_token_ms=5)
    job = submit("Hello", max_tokens=100)
    in_the_middle(store, job)
    second.kill()

    store.cancel(leaving)

    assert_whole(follow(hub, job), 100)
    assert (store.get(job.id).attempt, store.get(job.id).crashes) == (2, 1)
    assert store.get(busy.id).state == "in_progress"
    assert first.report().name == store.get(job.id).worker


def test_a_job_that_a_worker_lost_and_took_up_again_in_another_slot_comes_whole(worker, submit, store, hub):
    """Its lease runs out while it runs; the same worker's free slot gets it, and the first one must not stay taken."""
    running = worker(slots=2, fake_token_ms=5)
    job = submit("Hello", max_tokens=200)
    in_the_middle(store, job)

    def reaped() -> bool:
        store.redis.zadd(keys.leases("llm"), {job.id: 0})
        return store.reap("llm", job.id) == "queued"

    until(reaped, what="a moment in which its lease has run out")
    assert_whole(follow(hub, job), 200)
    assert store.get(job.id).attempt == 2
    until(lambda: running.report().running == 0, what="both slots to be free")
    for both in [submit("Hello", max_tokens=20) for _ in range(2)]:
        assert_whole(follow(hub, both), 20)


def test_an_embedding_is_made_again_after_a_crash(worker, submit_texts, store, hub):
    running = worker(FAKE_EMBED, fake_token_ms=2000)
    job = submit_texts("one", "two")
    # A job is in progress before the engine has it, but its worker reports it only then.
    until(lambda: running.report().running == 1, what="the run")
    running.crash_engine()
    follow(hub, job)
    done = store.get(job.id)
    assert (done.state, done.crashes, len(done.outcome.vectors)) == ("completed", 1, 2)


def test_a_worker_that_is_told_to_end_hands_its_jobs_to_the_next(worker, submit, store, hub):
    first = worker(slots=2, fake_token_ms=5)
    jobs = [submit("Hello", max_tokens=150) for _ in range(3)]
    in_the_middle(store, jobs[1])

    assert first.terminate() == 0

    records = [store.get(job.id) for job in jobs]
    assert [record.state for record in records] == ["queued"] * 3
    # Those that ran already are in front of the one that did not.
    assert store.position(jobs[2]) == 3
    worker(slots=3, fake_token_ms=1)
    for job in jobs:
        assert_whole(follow(hub, job), 150)
    assert [store.get(job.id).attempt for job in jobs] == [2, 2, 1]
    assert [store.get(job.id).crashes for job in jobs] == [0, 0, 0]


def test_ten_jobs_come_whole_through_a_row_of_restarts(worker, submit, store, hub):
    current = worker(slots=4, fake_token_ms=2)
    jobs = [submit("Hello", max_tokens=150, user=f"user {n % 3}") for n in range(10)]
    for at in (0, 5):
        in_the_middle(store, jobs[at], 20)
        current.terminate()
        current = worker(slots=4, fake_token_ms=2)
    for job in jobs:
        assert_whole(follow(hub, job), 150)


def test_jobs_outlive_a_crash_of_redis(own_valkey, start_worker):
    with connect(own_valkey.url) as client:
        own_store = JobStore(client)
        submitter = Submitter(own_store, MODELS, Limits(), lambda: [])
        start_worker(client, own_valkey.url, slots=2, fake_token_ms=5).until_ready()
        jobs = []
        for _ in range(3):
            request = GenerateRequest("/test", "fake-llm", Sampling(200), prompt="Hello")
            jobs.append(submitter.prepare(request, Terms("ann")))
            submitter.enqueue(jobs[-1])
        in_the_middle(own_store, jobs[0])

        own_valkey.kill()
        own_valkey.start()

        for job in jobs:
            until(lambda: ended(own_store, job), what="the end of every job")  # noqa: B023
            assert_whole(events.read(client, job.id), 200)


def test_a_job_that_was_whole_but_for_its_end_gets_no_token_more(worker, submit, store, hub):
    """Its worker died between the last token and the end."""
    job = submit("Hello", max_tokens=3)
    attempt = claimed(store, job)
    for number in (1, 2, 3):
        assert publish(store, attempt, word(number)) == "ok"
    store.hand_back(attempt)

    worker()

    assert_whole(follow(hub, job), 3)
    assert (store.get(job.id).outcome.text, store.get(job.id).outcome.finish_reason) == (" 1 2 3", "length")


def test_a_worker_whose_redis_is_away_ends_all_the_same_when_told_to(own_valkey, start_worker):
    with connect(own_valkey.url) as client:
        worker = start_worker(client, own_valkey.url).until_ready()
        own_valkey.kill()
        assert worker.terminate() == 0


def test_a_worker_that_dies_before_the_claim_leaves_the_id_where_it_is_found(submit, store, valkey, redis, monkeypatch):
    """RQ takes an id out of its intermediate list before it calls the job: too early, for the job's record is still
    `queued` then, and nobody would look for it again."""
    job = submit("Hello")
    found: list[list[str]] = []

    class Dying(JobStore):
        def claim(self, *args):
            found.append(redis.lrange("rq:queue:llm:intermediate", 0, -1))
            super().claim(*args)
            found.append(redis.lrange("rq:queue:llm:intermediate", 0, -1))

    as_worker(monkeypatch, store)
    with connect(valkey.url, decode=False) as client:
        host = EngineHost(store, WorkerConfig("", FAKE_LLM), "test", lambda count: None)
        rq_worker = EngineWorker([engine_queue(client, "llm")], connection=client, serializer="json")
        enter(Slot(host, Dying(redis), "llm", "test", lambda: None))
        rq_worker.work(burst=True, logging_level="WARNING")

    assert found == [[job.id], []]


def test_an_id_whose_picker_died_is_put_back_and_its_prompt_is_paid_once(worker, submit, store, hub, monkeypatch):
    monkeypatch.setattr(recovery, "POPPED_LIMIT_S", 0.0)
    job = submit("one two three", max_tokens=5)
    assert store.pick("llm", False) == job.id

    recovery.Reaper(store, "llm").run()

    assert (store.position(job), store.redis.llen("rq:queue:llm:intermediate")) == (1, 0)
    worker()
    assert_whole(follow(hub, job), 5)
    assert store.redis.get(f"npu:fair:llm:counter:interactive:{job.user_key}") == str(3 + 2 * 5)


def test_the_reaper_ends_a_job_that_waited_too_long_and_it_costs_nothing(submit, store, hub):
    job, other = submit("Hello", queue_timeout_s=0), submit("Hello", user="bob")

    recovery.Reaper(store, "llm").run()

    assert [event.name for event in follow(hub, job)] == ["status", "done"]
    done = store.get(job.id)
    assert (done.state, done.error.code, done.attempt) == ("expired", "queue_timeout", 0)
    assert (store.position(job), store.position(other), store.depth("llm")) == (None, 1, 1)
    assert store.redis.get(f"npu:fair:llm:counter:interactive:{job.user_key}") == "0"


def test_a_worker_says_when_its_model_loads_nowhere(start_worker, redis, valkey):
    worker = start_worker(redis, valkey.url, device="CPU", device_hints=("NPU",))
    assert worker.process.wait(15) == 1
    report = worker.report()
    assert report is not None
    assert report.state == "failed"
    assert "loads on no device" in report.progress
