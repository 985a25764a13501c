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
from jobs.connection import connect
from jobs.worker import EngineWorker, NoPenalty
from scheduler.queue import EngineQueue, engine_queue, new_job


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
    with connect(valkey.url, decode=False) as client:
        fetched = Job.fetch(job.id, connection=client, serializer="json")
        assert (fetched.func_name, fetched.args, fetched.kwargs) == ("jobs.runner.run_job", [job.id], {})
        assert (fetched.timeout, fetched.result_ttl) == (-1, 0)
        assert b"secret" not in b"".join(client.hgetall(fetched.key).values())


class Recording(EngineWorker):
    """Runs jobs that do nothing but note what it saw."""

    seen: list[str]

    def perform_job(self, job, queue, execution) -> bool:
        self.seen.append(job.id)
        self.beat()
        return super().perform_job(job, queue, execution)


def test_a_worker_pops_through_the_seam_beats_and_leaves_no_trace_of_a_job(valkey, redis, monkeypatch):
    monkeypatch.setattr(EngineQueue, "stopping", threading.Event(), raising=False)
    with connect(valkey.url, decode=False) as client:
        queue = engine_queue(client, "llm")
        job = Job.create(
            "os.getpid", id="job_x", connection=client, origin="llm", serializer="json", timeout=-1, result_ttl=0
        )
        queue.enqueue_job(job)
        worker = Recording([queue], connection=client, serializer="json")
        worker.seen = []

        worker.work(burst=True, logging_level="WARNING")

    assert worker.seen == ["job_x"]
    assert worker.death_penalty_class is NoPenalty
    assert not redis.exists("rq:job:job_x")
    left = [key for key in redis.keys() if "job_x" in key]
    assert left == []
    assert [key for key in redis.keys("rq:wip:*")] == []
    # The id stays where the reaper looks until the job's own claim takes it out.
    assert redis.lrange(keys.popped("llm"), 0, -1) == ["job_x"]


def test_an_id_without_a_hash_is_given_a_new_one(valkey):
    with connect(valkey.url, decode=False) as client:
        found = EngineQueue._fetch_dequeued_job(client, keys.waiting("llm"), "job_lost", serializer="json")
        assert found is not None
        job, queue = found
        assert (job.id, job.args, job.origin, queue.name) == ("job_lost", ["job_lost"], "llm", "llm")
        assert job.to_dict().keys() == new_job(queue, "job_lost").to_dict().keys()


def test_a_stopping_worker_pops_nothing_more(valkey, submit, redis, monkeypatch):
    stopping = threading.Event()
    monkeypatch.setattr(EngineQueue, "stopping", stopping, raising=False)
    with connect(valkey.url, decode=False) as client:
        with pytest.raises(DequeueTimeout):
            EngineQueue.lmove(client, keys.waiting("llm"), 1)
        assert EngineQueue.lmove(client, keys.waiting("llm"), None) is None
        submit("Hello")
        stopping.set()
        with pytest.raises(StopRequested):
            EngineQueue.lmove(client, keys.waiting("llm"), 1)
    assert redis.llen(keys.waiting("llm")) == 1
