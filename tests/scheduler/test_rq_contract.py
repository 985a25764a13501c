"""What is used of RQ 3.0, much of it undocumented: names, signatures and behaviour."""

import inspect
import threading

import pytest
import rq
from rq import Queue, SimpleWorker
from rq.exceptions import DequeueTimeout, StopRequested
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.timeouts import BaseDeathPenalty

from jobs import keys
from jobs.config import WorkerConfig
from jobs.connection import connect
from jobs.host import EngineHost
from jobs.runner import Slot, enter
from jobs.store import JobStore
from jobs.worker import EngineWorker, NoPenalty
from scheduler.queue import EngineQueue, engine_queue, new_job
from tests.conftest import FAKE_LLM
from tests.support.slots import as_worker
from tests.support.waiting import until


def parameters(function) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def test_the_release_is_the_one_that_was_read():
    assert rq.__version__.startswith("3.0.")


def test_the_methods_that_are_overridden_are_still_called_so():
    assert parameters(Queue.lmove) == ["connection", "queue_key", "timeout"]
    assert parameters(Queue._fetch_dequeued_job)[:3] == ["connection", "queue_key", "job_id"]
    assert parameters(SimpleWorker.execute_job) == ["job", "queue"]
    assert parameters(SimpleWorker.get_heartbeat_ttl) == ["job", "working_time"]
    assert parameters(SimpleWorker.prepare_job_execution) == ["job", "remove_from_intermediate_queue"]
    assert parameters(SimpleWorker.heartbeat) == ["timeout", "pipeline"]
    assert parameters(SimpleWorker._finalize_success) == ["job", "queue", "execution", "return_value"]
    assert parameters(SimpleWorker._finalize_failure) == ["job", "queue", "execution", "exc_info"]
    for name in ("_install_signal_handlers", "subscribe", "unsubscribe"):
        assert parameters(getattr(SimpleWorker, name)) == []
    assert {"setup_death_penalty", "cancel_death_penalty"} <= set(vars(BaseDeathPenalty))


def test_the_methods_that_are_called_take_what_they_are_given():
    assert parameters(SimpleWorker.prepare_execution) == ["job"]
    assert parameters(SimpleWorker.perform_job) == ["job", "queue", "execution"]
    assert parameters(SimpleWorker.maintain_heartbeats) == ["job", "execution"]
    assert {"pipeline"} <= set(parameters(Queue.enqueue_job))
    taken = set(parameters(Job.create))
    assert {"args", "id", "connection", "origin", "serializer", "description"} <= taken
    assert {"timeout", "result_ttl", "failure_ttl"} <= taken
    taken = set(parameters(SimpleWorker.__init__))
    assert {"queues", "name", "connection", "worker_ttl", "serializer", "log_job_description"} <= taken


def test_the_keys_are_where_rq_has_them(valkey):
    with connect(valkey.url, decode=False) as client:
        queue = engine_queue(client, "llm")
        assert queue.key == keys.waiting("llm")
        assert IntermediateQueue(queue.key, client).key == queue.intermediate_queue_key == keys.popped("llm")


def test_a_job_is_json_without_its_prompt_and_without_a_timeout(valkey, submit, redis):
    job = submit("a very secret prompt")
    assert redis.keys("rq:*") == [], "RQ learns of a job when it is picked"
    with connect(valkey.url, decode=False) as client:
        made, _ = EngineQueue._fetch_dequeued_job(client, keys.waiting("llm"), job.id, serializer="json")
        made.save()
        fetched = Job.fetch(job.id, connection=client, serializer="json")
        assert (fetched.func_name, fetched.args, fetched.kwargs) == ("jobs.runner.run_job", [job.id], {})
        assert (fetched.timeout, fetched.result_ttl) == (-1, 0)
        assert b"secret" not in b"".join(client.hgetall(fetched.key).values())


class Recording(EngineWorker):
    """Notes what it saw."""

    seen: list[str]

    def perform_job(self, job, queue, execution) -> bool:
        self.seen.append(job.id)
        self.beat()
        self.wip = self.connection.keys("rq:wip:*")
        return super().perform_job(job, queue, execution)


class Unclaiming(JobStore):
    """Never has anything to run."""

    def claim(self, *args) -> None:
        """As if it had been cancelled."""


def a_slot(store, redis) -> Slot:
    """A slot whose picked jobs nobody claims."""
    host = EngineHost(store, WorkerConfig("", FAKE_LLM), "w", lambda count: None)
    return Slot(host, Unclaiming(redis), "llm", "w", lambda: None)


def test_a_worker_pops_through_the_seam_beats_and_leaves_no_trace_of_a_job(valkey, submit, store, redis, monkeypatch):
    as_worker(monkeypatch, store)
    job = submit("Hello")
    before = [key for key in redis.keys() if job.id in key]
    with connect(valkey.url, decode=False) as client:
        queue = engine_queue(client, "llm")
        enter(a_slot(store, redis))
        worker = Recording([queue], connection=client, serializer="json")
        worker.seen = []

        worker.work(burst=True, logging_level="WARNING")

    assert worker.seen == [job.id]
    assert worker.wip == [b"rq:wip:llm"]
    assert worker.death_penalty_class is NoPenalty
    assert not redis.exists(keys.rq_job(job.id))
    left = [key for key in redis.keys() if job.id in key]
    assert sorted(left) == sorted(before)
    assert [key for key in redis.keys("rq:wip:*")] == []
    # The id stays where the reaper looks until the job's own claim takes it out.
    assert redis.lrange(keys.popped("llm"), 0, -1) == [job.id]


def test_a_run_that_fails_after_its_first_beat_leaves_no_execution(valkey, submit, store, redis, monkeypatch):
    """Redis went away while its end was taken off RQ's books, say."""
    as_worker(monkeypatch, store)
    job = submit("Hello")
    monkeypatch.setattr(EngineWorker, "_finalize_success", lambda *args: 1 / 0)
    with connect(valkey.url, decode=False) as client:
        enter(a_slot(store, redis))
        worker = Recording([engine_queue(client, "llm")], connection=client, serializer="json")
        worker.seen = []
        worker.work(burst=True, logging_level="CRITICAL")
    assert worker.wip == [b"rq:wip:llm"]
    assert [*redis.keys("rq:wip:*"), *redis.keys("rq:execution*")] == []
    assert 0 < redis.ttl(keys.rq_job(job.id)) <= 60


def test_rqs_maintenance_leaves_picked_ids_where_the_reaper_finds_them(valkey, submit, store, redis):
    job = submit("Hello")
    assert parameters(IntermediateQueue.cleanup) == ["worker", "queue"]
    assert store.pick("llm", False) == job.id
    with connect(valkey.url, decode=False) as client:
        worker = EngineWorker([engine_queue(client, "llm")], connection=client, serializer="json")
        worker.run_maintenance_tasks()
        assert worker.last_cleaned_at is not None
    assert redis.lrange(keys.popped("llm"), 0, -1) == [job.id]
    assert store.put_back("llm", job.id)


def test_ids_that_rq_pushes_itself_are_absorbed_in_front_of_their_users_line(valkey, submit, store, redis):
    first, second = submit("Hello"), submit("Hello")
    assert store.pick("llm", False) == first.id
    redis.delete(keys.popped("llm"))
    with connect(valkey.url, decode=False) as client:
        queue = engine_queue(client, "llm")
        queue.enqueue_job(new_job(queue, first.id))
        queue.enqueue_job(new_job(queue, "job_nobodys"))
    assert redis.lrange(keys.waiting("llm"), 0, -1) == [first.id, "job_nobodys"]

    assert [store.pick("llm", False) for _ in range(3)] == [first.id, second.id, None]

    assert not redis.exists(keys.waiting("llm"))
    assert redis.lrange(keys.popped("llm"), 0, -1) == [second.id, first.id]


def test_an_id_without_a_hash_is_given_a_new_one(valkey):
    with connect(valkey.url, decode=False) as client:
        found = EngineQueue._fetch_dequeued_job(client, keys.waiting("llm"), "job_lost", serializer="json")
        assert found is not None
        job, queue = found
        assert (job.id, job.args, job.origin, queue.name) == ("job_lost", ["job_lost"], "llm", "llm")
        assert job.to_dict().keys() == new_job(queue, "job_lost").to_dict().keys()


def test_a_stopping_worker_pops_nothing_more(valkey, submit, store, redis, monkeypatch):
    stopping = as_worker(monkeypatch, store)
    with connect(valkey.url, decode=False) as client:
        with pytest.raises(DequeueTimeout):
            EngineQueue.lmove(client, keys.waiting("llm"), 1)
        assert EngineQueue.lmove(client, keys.waiting("llm"), None) is None
        job = submit("Hello")
        stopping.set()
        with pytest.raises(StopRequested):
            EngineQueue.lmove(client, keys.waiting("llm"), 1)
    assert (store.position(job), redis.llen(keys.popped("llm"))) == (1, 0)


def test_a_slot_that_waits_is_woken_by_the_next_job(valkey, submit, store, monkeypatch):
    as_worker(monkeypatch, store)
    monkeypatch.setattr("scheduler.queue.POP_WAIT_S", 5)
    popped = []
    with connect(valkey.url, decode=False, blocking=True) as client:
        slot = threading.Thread(target=lambda: popped.append(EngineQueue.lmove(client, keys.waiting("llm"), 5)))
        slot.start()
        until(lambda: client.info("clients")["blocked_clients"] == 1, what="its wait")
        job = submit("Hello")
        slot.join(2)
    assert popped == [(keys.waiting("llm"), job.id)]
