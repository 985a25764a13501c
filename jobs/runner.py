"""What an RQ job runs: claim our job, hand it to the engine's host, wait for its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from jobs import events
from jobs.attempt import Attempt
from jobs.fault_points import reach
from jobs.host import EngineHost
from jobs.store import JobStore

#: RQ and its tools are told so often that a job is alive. Seconds.
HEARTBEAT_S = 10.0


@dataclass(frozen=True)
class Slot:
    """Where a slot's thread finds what it needs; `alive` is called at the start of a run and every
    `HEARTBEAT_S` of it."""

    host: EngineHost
    store: JobStore
    engine: str
    worker: str
    alive: Callable[[], None]


_current = threading.local()


def enter(slot: Slot) -> None:
    """Make this thread a slot's."""
    _current.slot = slot


def run_job(job_id: str) -> None:
    """RQ's job function. Blocks until the job's end is written, or the job was handed back."""
    slot: Slot = _current.slot
    reach("picked")
    job = slot.store.claim(slot.engine, job_id, slot.worker, slot.host.device)
    if job is None:
        return
    reach("claimed")
    text, tokens = events.produced(slot.store.redis, job.id) if job.attempt > 1 else ("", ())
    attempt = Attempt(job, text, tokens)
    slot.host.submit(attempt)
    slot.alive()  # Only now, while the engine works: RQ's books are nobody's wait.
    while not attempt.over.wait(HEARTBEAT_S):
        slot.alive()
