"""Cancelling jobs that nobody waits for, also when Redis is away at that moment."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace

from redis.exceptions import RedisError

from jobs.fault_points import reach
from jobs.record import Job
from jobs.store import JobStore

log = logging.getLogger("npu_proxy.api")

#: Between two tries while Redis is away. Seconds.
TRY_AGAIN_S = 0.5
#: Jobs that are remembered meanwhile; those beyond run to their end.
MOST_KEPT = 10_000


class Unwanted:
    """The jobs whose client left, and those whose acceptance was never confirmed. Thread-safe."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        #: By id, with how often Redis has said that there is no such job.
        self._kept: dict[str, tuple[Job, int]] = {}
        self._running = False

    def cancel(self, job: Job) -> None:
        """Cancel it, at once or when Redis is back; raises nothing."""
        try:
            self._store.cancel(job)
            reach("cancelled")
        except RedisError:
            self.cancel_later(job)

    def cancel_later(self, job: Job) -> None:
        """Cancel it when Redis is back, even if it becomes known only then: Redis may have the request that accepts it,
        and not have looked at it."""
        with self._lock:
            if len(self._kept) < MOST_KEPT:
                self._kept.setdefault(job.id, (replace(job, task=""), 0))  # Its prompt may be large.
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, name="unwanted-jobs", daemon=True).start()

    def _work(self) -> None:
        while True:
            time.sleep(TRY_AGAIN_S)
            with self._lock:
                if not self._kept:
                    self._running = False
                    return
                kept = list(self._kept.values())
            try:
                for job, denied in kept:
                    state = self._store.cancel(job)
                    reach("cancelled")
                    with self._lock:
                        if state is None and denied == 0:
                            self._kept[job.id] = job, 1
                        else:
                            del self._kept[job.id]
            except RedisError as error:
                log.warning("Redis is away (%s), %d jobs are cancelled later", error, len(kept))
