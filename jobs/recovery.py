"""Finding jobs whose worker died, to give them to another, and those that waited too long."""

from __future__ import annotations

import logging
import time

from jobs import keys
from jobs.fault_points import reach
from jobs.process_name import is_dead
from jobs.store import LEASE_MS, JobStore, now_ms

log = logging.getLogger("npu_proxy.worker")

#: An id may lie so long between pop and start before its worker counts as dead. Seconds; the start takes ms.
POPPED_LIMIT_S = 5.0
#: Passes come every second; one so late says that something stood still. Seconds.
LATE_PASS_S = 4.0


class Reaper:
    """Looks after one engine kind's jobs. Any number may run; the scripts let only one of them move a job."""

    def __init__(self, store: JobStore, engine: str) -> None:
        self._store = store
        self._engine = engine
        self._popped_since: dict[str, float] = {}
        self._last_pass, self._last_pass_ms = time.monotonic(), now_ms()
        self._hold_off_until = 0.0

    def run(self) -> None:
        """One pass: jobs of workers that died on this machine, lapsed leases, waits that took too long, ids popped but
        never claimed. Raises redis's errors."""
        now = time.monotonic()
        self._look_around()
        if max(now - self._last_pass, abs(now_ms() - self._last_pass_ms) / 1000) > LATE_PASS_S:
            # Redis, or this process, was away, or the machine slept, or its clock was set: other workers' leases may
            # have run out for no fault of theirs.
            self._hold_off_until = now + LEASE_MS / 1000
        self._last_pass, self._last_pass_ms = now, now_ms()
        if now < self._hold_off_until:
            return
        redis = self._store.redis
        for job_id in redis.zrangebyscore(keys.leases(self._engine), "-inf", now_ms()):
            state = self._store.reap(self._engine, job_id)
            reach("reaped")
            if state != "stale":
                log.warning("%s lost its worker, now %s", job_id, state)
        for job_id in redis.zrangebyscore(keys.queue_deadlines(self._engine), "-inf", now_ms()):
            self._store.expire_if_late(self._engine, job_id)
        popped = redis.lrange(keys.popped(self._engine), 0, -1)
        self._popped_since = {job_id: self._popped_since.get(job_id, now) for job_id in popped}
        for job_id, since in self._popped_since.items():
            if now - since >= POPPED_LIMIT_S and self._store.put_back(self._engine, job_id):
                reach("put_back")
                log.warning("%s was popped by a worker that died, queued again", job_id)

    def _look_around(self) -> None:
        """Take the jobs of workers that are known to be dead: on this machine one need not wait for a lease."""
        running = self._store.redis.zrange(keys.leases(self._engine), 0, -1)
        with self._store.redis.pipeline(transaction=False) as pipe:
            for job_id in running:
                pipe.hmget(keys.job(job_id), "worker", "attempt")
            found = zip(running, pipe.execute(), strict=True)
        for job_id, (worker, attempt) in found:
            if worker and is_dead(worker):
                state = self._store.reap(self._engine, job_id, int(attempt))
                reach("reaped")
                if state != "stale":
                    log.warning("%s lost its worker, which died, now %s", job_id, state)
