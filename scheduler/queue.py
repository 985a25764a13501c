"""The queue of one engine: RQ's, with the seam where the next job is chosen."""

from __future__ import annotations

import threading
from typing import Any

from redis import Redis
from rq import Queue
from rq.exceptions import DequeueTimeout, StopRequested
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job

#: What an RQ job calls. A name, not a function: only workers import it.
RUN_JOB = "jobs.runner.run_job"

#: How long one blocking pop waits before it looks whether its worker is to stop. Seconds.
POP_WAIT_S = 0.5


class EngineQueue(Queue):
    """Waiting jobs of one engine. `lmove` decides which is next; today that is RQ's order of arrival.

    RQ's job holds nothing but our job's id, so a lost or expired RQ hash is made anew when its id is popped.
    """

    #: Set while a worker process ends: its slots stop waiting within `POP_WAIT_S`.
    stopping: threading.Event

    @classmethod
    def lmove(cls, connection: Redis, queue_key: str, timeout: int | None) -> tuple[str, Any] | None:
        """Move the next job's id to the intermediate list and return it with the queue's key; blocks up to
        `timeout` seconds. Raises rq's `DequeueTimeout` when there is none and `StopRequested` when `stopping`."""
        intermediate = IntermediateQueue(queue_key, connection).key
        if timeout is None:
            job_id = connection.lmove(queue_key, intermediate)
            return None if job_id is None else (queue_key, job_id)
        for _ in range(max(1, int(timeout / POP_WAIT_S))):
            if cls.stopping.is_set():
                raise StopRequested
            job_id = connection.blmove(queue_key, intermediate, POP_WAIT_S)
            if job_id is not None:
                return queue_key, job_id
        raise DequeueTimeout(timeout, queue_key)

    @classmethod
    def _fetch_dequeued_job(cls, connection: Redis, queue_key: str, job_id: str, *args: Any, **kwargs: Any) -> Any:
        found = super()._fetch_dequeued_job(connection, queue_key, job_id, *args, **kwargs)
        if found is not None:
            return found
        queue = cls.from_queue_key(queue_key, connection=connection, serializer="json")
        return new_job(queue, job_id), queue


def new_job(queue: Queue, job_id: str) -> Job:
    """RQ's job for one of ours: JSON only, no timeout of RQ's (it cannot stop a device), nothing kept after."""
    return Job.create(
        RUN_JOB,
        args=[job_id],
        id=job_id,
        connection=queue.connection,
        origin=queue.name,
        serializer="json",
        description=job_id,
        timeout=-1,
        result_ttl=0,
        failure_ttl=60,
    )


def engine_queue(connection: Redis, engine: str) -> EngineQueue:
    """The queue of an engine kind."""
    return EngineQueue(engine, connection=connection, serializer="json")
