"""What a caller is told while a job waits: its place in the queue, and about how long that will take."""

from __future__ import annotations

from dataclasses import dataclass

from redis.exceptions import RedisError

from api.services import Services
from jobs import keys
from jobs.record import Job
from jobs.reports import estimated_wait_s


@dataclass(frozen=True)
class Outlook:
    """Both are estimates; see `JobStore.position` and `estimated_wait_s`."""

    #: 1 for the next.
    position: int
    #: To 0.1 s; None when it is not known how fast jobs end, or when one of the user's own must end first.
    wait_s: float | None


def outlook(at: Services, job: Job) -> Outlook | None:
    """How it looks for a job; None when it does not wait. Up to three round trips, and no error when Redis is away:
    None then, too, as the job is accepted, and what is told of it is no reason to fail."""
    try:
        position = at.store.position(job)
        if position is None:
            return None
        if not at.store.may_run(job):
            return Outlook(position, None)
        running = int(at.store.redis.zcard(keys.leases(job.engine)))
    except RedisError:
        return None
    wait_s = estimated_wait_s(at.workers(), job.engine, position, running)
    return Outlook(position, None if wait_s is None else round(wait_s, 1))
