"""The queue of one engine: RQ's, with the seam where the next job is chosen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
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


class PickedIds(IntermediateQueue):
    """Ids between pick and claim. Whoever looks after the jobs puts back what stays there."""

    def cleanup(self, worker: Any, queue: Any) -> None:
        """Nothing: RQ would remove every id that has no hash of RQ's, as ours have none yet, and so lose the job."""


class EngineQueue(Queue):
    """Waiting jobs of one engine kind, in the fair order.

    A worker process gives `pick`, `wake_list` and `stopping` before its slots start.
    """

    #: Chooses the next job and moves its id to RQ's intermediate list; given whether a wake token was taken.
    pick: Callable[[bool], str | None]
    #: The Redis list that holds a token for each waiting job, for slots to block on.
    wake_list: str
    #: Held by the one idle slot of a process that asks Redis for work; the others wait for it.
    turn = threading.Lock()
    #: Set while a worker process ends: its slots stop waiting within `POP_WAIT_S`.
    stopping: threading.Event

    @classmethod
    def lmove(cls, connection: Redis, queue_key: str, timeout: int | None) -> tuple[str, Any] | None:
        """The next job's id, and the queue's key; blocks up to `timeout` seconds, not at all without one. Raises rq's
        `DequeueTimeout` when there is none and `StopRequested` when `stopping`."""
        give_up_at = time.monotonic() + (timeout or 0)
        if not cls.turn.acquire(timeout=timeout or 0):
            raise DequeueTimeout(timeout, queue_key)
        try:
            woken = False
            while not cls.stopping.is_set():
                # Without a token too: what RQ itself put into its list, or whose token was lost with a slot, has none.
                job_id = cls.pick(woken)
                if job_id is not None:
                    return queue_key, job_id
                if timeout is None:
                    return None
                if time.monotonic() >= give_up_at:
                    raise DequeueTimeout(timeout, queue_key)
                woken = connection.blpop(cls.wake_list, POP_WAIT_S) is not None
            raise StopRequested
        finally:
            cls.turn.release()

    @property
    def intermediate_queue(self) -> PickedIds:
        return PickedIds(self.key, connection=self.connection)

    @classmethod
    def _fetch_dequeued_job(cls, connection: Redis, queue_key: str, job_id: str, *args: Any, **kwargs: Any) -> Any:
        """RQ's job of an id, made on the spot: there is nothing in it to be fetched."""
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
