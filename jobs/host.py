"""A worker's main loop: between the engine process on one side and the jobs in Redis on the other.

One thread, the process's main one, owns the engine's socket and restarts, the running jobs' deadlines, and every
write about them. The slots (RQ workers, a thread each) hand it attempts and wait. A step's tokens of all slots go to
Redis in one pipeline.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from typing import TypeVar

from redis.exceptions import NoScriptError, RedisError

from engines import wire
from engines.base import EngineFacts
from engines.client import EngineProcess
from jobs import reports
from jobs.attempt import CANCELLED, Attempt, Ending
from jobs.config import WorkerConfig
from jobs.fault_points import reach
from jobs.record import JobError
from jobs.recovery import Reaper
from jobs.reports import LOADED, Report, WorkerState
from jobs.store import MAX_CRASHES, JobStore, PublishResult, now_ms

Result = TypeVar("Result")
log = logging.getLogger("npu_proxy.worker")

#: How often running jobs are looked after while their engine says nothing: cancel, deadline, lease. Seconds.
TICK_S = 0.1
REPORT_S = 1.0
#: Pause before a crashed engine starts again: the first, doubled at each crash without a token since. Seconds.
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
#: Pause between two tries to reach Redis with what a step brought. Seconds.
REDIS_PAUSE_S = 0.2
#: An engine that has work and is silent for so long hangs, and is killed. Longer than any step may take. Seconds.
HANG_S = 60.0


class EngineHost:
    """Runs attempts in one engine process. `run` is the main thread's; `submit` and `stop` may come from any."""

    def __init__(self, store: JobStore, config: WorkerConfig, name: str, on_ready: Callable[[int], None]) -> None:
        """`on_ready` is called once, with the number of slots, when the engine has loaded for the first time."""
        self._store = store
        self._config = config
        self._spec = config.engine
        self._name = name
        self._on_ready = on_ready
        self._inbox: queue.SimpleQueue[Attempt] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poll = select.poll()
        self._poll.register(self._wake_read, select.POLLIN)
        self._stopping = threading.Event()
        #: By `Attempt.task_id`.
        self._running: dict[str, Attempt] = {}
        #: Tasks that the engine was told to drop and has not answered for, with the time it was told.
        self._unanswered: dict[str, float] = {}
        self._reaper = Reaper(store, config.engine.kind)
        self._engine: EngineProcess | None = None
        self._facts: EngineFacts | None = None
        self._state: WorkerState = "loading"
        self._progress = "starting"
        self._failure: str | None = None
        self._pause_s = FIRST_PAUSE_S
        #: How long a slot was held by a job lately, however the job ended; 0 until one has.
        self._run_s = 0.0
        self._started_at = self._start_at = self._heard_at = time.monotonic()
        self._reported_at = 0.0
        #: The first look for lost jobs comes at once, before a slot takes any.
        self._reaped_at = float("-inf")

    def submit(self, attempt: Attempt) -> None:
        """Run an attempt; returns at once, `attempt.over` is set when its end is written."""
        self._inbox.put(attempt)
        self._wake()

    def stop(self) -> None:
        """End `run` soon; its jobs then wait for `hand_back`."""
        self._stopping.set()
        self._wake()

    def run(self) -> int:
        """Serve until stopped: 0; or until no device takes the model: 1."""
        try:
            self._persist(self._store.load_scripts)
            while not self._stopping.is_set() and self._failure is None:
                self._turn()
            if self._failure is not None:
                self._state, self._progress = "failed", self._failure
                log.error("%s", self._failure)
                self._report()
                return 1
            return 0
        except RedisError:
            if not self._stopping.is_set():
                raise
            return 0
        finally:
            if self._engine is not None:
                self._engine.end()

    def _turn(self) -> None:
        if self._engine is None and time.monotonic() >= self._start_at:
            self._start_engine()
        ready = {fd for fd, _ in self._poll.poll(self._tick_ms())}
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
            self._take_new()
        if self._engine is not None and self._engine.connection.fileno() in ready:
            self._hear(self._engine)
        self._look_after()

    def _tick_ms(self) -> float:
        """How long to listen before running jobs are looked after: no longer than to the next deadline."""
        deadlines = [a.job.run_deadline_ms for a in self._running.values() if a.ending is None]
        next_s = (min(deadlines) - now_ms()) / 1000 if deadlines else TICK_S
        return 1000 * min(TICK_S, max(0.0, next_s))

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:
            pass  # The pipe is full of wake-ups already.

    # --- the engine process

    def _start_engine(self) -> None:
        self._engine = EngineProcess(self._spec)
        self._poll.register(self._engine.connection, select.POLLIN)
        self._started_at = time.monotonic()
        self._progress = "starting"

    def _hear(self, engine: EngineProcess) -> None:
        self._heard_at = time.monotonic()
        try:
            kind, body = engine.receive()
        except (EOFError, OSError):
            self._engine_died(grace_s=1.0)
            return
        if kind == "step":
            updates = [u for u in wire.updates_from(body) if u.id in self._running]
            if updates:
                self._pause_s = FIRST_PAUSE_S  # It works: its next crash is not one of a row.
            for update in updates:
                self._running[update.id].take(update)
            self._flush(self._running[update.id] for update in updates)
        elif kind == "cancelled":
            self._unanswered.pop(body, None)
        elif kind == "progress":
            self._progress = body
            log.info("%s: %s", self._spec.kind, body)
            self._report()
        elif kind == "failed":
            self._failure = body["message"]
        elif kind == "ready":
            self._engine_ready(wire.facts_from(body))

    def _engine_ready(self, facts: EngineFacts) -> None:
        first = self._facts is None
        self._facts, self._state, self._progress = facts, "ready", ""
        for reason in facts.fallbacks:
            log.info("%s: %s", facts.kind, reason)
        log.info(
            "%s: %s ready on %s in %.1f s, %d slots", facts.kind, facts.model, facts.device, facts.load_s, facts.slots
        )
        self._report()
        for attempt in self._running.values():
            self._give(attempt)
        if first:
            self._on_ready(facts.slots)

    def _engine_died(self, grace_s: float = 0.0) -> None:
        """Start it again after a pause. Its jobs go on from their tokens, but for those it has now died under twice: a
        suspect among them is taken for the cause, and the crash counts for nobody else."""
        assert self._engine is not None
        self._poll.unregister(self._engine.connection)
        how = self._engine.end(grace_s)
        self._engine = None
        self._unanswered.clear()
        self._state, self._progress = "restarting", f"the engine process ended with {how}"
        log.error("%s: %s, %d jobs were running", self._spec.kind, self._progress, len(self._running))
        if time.monotonic() - self._started_at > LONGEST_PAUSE_S * 3:
            self._pause_s = FIRST_PAUSE_S
        self._start_at = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        message = f"The engine crashed {MAX_CRASHES} times while this job was running; it is not tried again."
        under_it = [attempt for attempt in self._running.values() if attempt.given]
        crash = f"{self._name} {self._started_at}"
        suspects = [attempt for attempt in under_it if attempt.suspect]
        blamed = suspects or under_it
        for attempt in under_it:
            attempt.given, attempt.suspect = False, True
        self._forgive(suspects)
        for attempt in blamed:
            attempt.shared_crash = "" if suspects else crash
            crashes = self._persist(partial(self._store.count_crash, attempt.job, crash))
            reach("crash_counted")
            if crashes >= MAX_CRASHES:
                attempt.ending = Ending("failed", "failed", JobError("engine_crashed", message))
        # Also of those to whom no crash is counted: their engine has gone all the same.
        for attempt in self._running.values():
            attempt.end_if_broken_off()
        self._flush([a for a in self._running.values() if a in under_it or a.ending is not None])
        self._report()

    def _forgive(self, guilty: list[Attempt]) -> None:
        """The crashes that these were counted for together with others were theirs: take back the others' counts."""
        crashes = {attempt.shared_crash for attempt in guilty} - {""}
        for attempt in self._running.values():
            if attempt.shared_crash in crashes and attempt not in guilty:
                self._persist(partial(self._store.forgive_crash, attempt.job, attempt.shared_crash))
                attempt.shared_crash = ""

    def _give(self, attempt: Attempt) -> None:
        """Hand an attempt to the engine, or leave it to be given when the engine is ready. Those that an engine died
        under are given one at a time, the next when the one before has shown a new token, so that the one it dies of is
        known and takes no other along. Those that have shown theirs run on meanwhile: nobody waits for an end."""
        if self._engine is None or self._state != "ready" or attempt.ending is not None:
            return
        given = [a for a in self._running.values() if a.given]
        if any(a.suspect for a in given):
            return
        if not given:
            self._heard_at = time.monotonic()  # Until now it had nothing to say.
        attempt.given = True
        self._engine.submit(attempt.engine_task())

    # --- jobs

    def _take_new(self) -> None:
        while not self._inbox.empty():
            attempt = self._inbox.get()
            for stale in [a for a in self._running.values() if a.job.id == attempt.job.id]:
                # Its lease ran out while this process stood still, and another slot here has taken the job up again.
                self._withdraw(stale, CANCELLED)
                del self._running[stale.task_id]
                stale.over.set()
            self._running[attempt.task_id] = attempt
            if attempt.job.model != self._spec.model:
                message = f"The worker that took this job serves {self._spec.model}."
                attempt.ending = Ending("failed", "failed", JobError("model_unavailable", message))
            self._give(attempt)

    def _look_after(self) -> None:
        """What must be noticed even while the engine is silent."""
        now = now_ms()
        late = [a for a in self._running.values() if now >= a.job.run_deadline_ms and a.ending is None]
        for attempt in late:
            self._withdraw(attempt, attempt.at_deadline)
        quiet_since = time.monotonic() - TICK_S
        self._flush([a for a in self._running.values() if a.heard <= quiet_since or a in late])
        if time.monotonic() - self._reported_at >= REPORT_S:
            self._report()
        if time.monotonic() - self._reaped_at >= REPORT_S:
            self._reaped_at = time.monotonic()
            try:
                self._reaper.run()
            except RedisError as error:
                log.warning("cannot look for lost jobs: %s", error)
            self._watch_engine()

    def _watch_engine(self) -> None:
        """Kill an engine that takes too long to load, that does not drop a task it was told to drop, or that has work
        and says nothing."""
        if self._engine is None or self._engine.connection.poll():
            return  # One that has said something nobody has read yet, as when Redis was away, is not silent.
        if self._state != "ready":
            since, limit_s = self._started_at, self._config.engine_start_timeout_s
        elif self._unanswered:
            since, limit_s = min(self._unanswered.values()), self._config.engine_grace_s
        else:
            since, limit_s = self._heard_at, HANG_S
        silent_s = time.monotonic() - since
        if silent_s > limit_s and (self._running or self._unanswered or self._state != "ready"):
            log.error("%s: the engine had been silent for %g s and is killed", self._spec.kind, limit_s)
            if self._unanswered:
                # The task it hangs in, or takes too long for, has been given up: the others had no part in it.
                for attempt in self._running.values():
                    attempt.given = False
            self._engine_died()

    def _withdraw(self, attempt: Attempt, ending: Ending) -> None:
        """Take an attempt off the device and end it so."""
        attempt.ending = ending
        if self._engine is not None and attempt.given:
            self._engine.cancel(attempt.task_id)
            self._unanswered.setdefault(attempt.task_id, time.monotonic())

    def _flush(self, attempts: Iterable[Attempt]) -> None:
        """Write what is new about these attempts in one pipeline, and act on what Redis answers.

        While Redis is away this tries again and again: the engine waits, nothing it made is lost. What was written
        before the connection broke is not written twice (see publish.lua).
        """
        attempts = list(attempts)
        if not attempts:
            return
        results = self._persist(lambda: self._write(attempts))
        reach("ended" if any(attempt.ending is not None for attempt in attempts) else "published")
        for attempt, result in zip(attempts, results, strict=True):
            attempt.published()
            if result == "stale" or attempt.ending is not None:
                if attempt.ending is None:
                    self._withdraw(attempt, CANCELLED)
                if result != "stale":
                    self._run_s = reports.mean_run_s(self._run_s, time.monotonic() - attempt.begun)
                del self._running[attempt.task_id]
                attempt.over.set()
            elif result == "cancel":
                self._withdraw(attempt, CANCELLED)
                self._flush([attempt])
        for waiting in [a for a in self._running.values() if not a.given]:
            self._give(waiting)

    def _write(self, attempts: list[Attempt]) -> list[PublishResult]:
        # A last token is never without its end: the job would be continued behind it.
        together = any(attempt.ending is not None for attempt in attempts)
        with self._store.redis.pipeline(transaction=together) as pipe:
            for attempt in attempts:
                self._store.publish(pipe, attempt.job, attempt.unpublished())
            for attempt in attempts:
                if attempt.ending is not None:
                    ending = attempt.ending
                    self._store.finish(pipe, attempt.job, ending.state, attempt.outcome(), ending.error)
            results: list[PublishResult] = pipe.execute()[: len(attempts)]
            return results

    def _persist(self, write: Callable[[], Result]) -> Result:
        while True:
            try:
                return write()
            except NoScriptError:
                self._store.load_scripts()
            except RedisError as error:
                log.warning("Redis is away (%s), trying again", error)
                if self._stopping.wait(REDIS_PAUSE_S):
                    raise

    def _report(self) -> None:
        self._reported_at = time.monotonic()
        known = asdict(self._facts) if self._facts else {}
        loaded = {name: known[name] for name in LOADED if name in known}
        kind, model, running = self._spec.kind, self._spec.model, len(self._running)
        report = Report(self._name, kind, model, self._state, self._progress, running, self._run_s, **loaded)
        try:
            reports.write(self._store.redis, report)
        except RedisError as error:
            log.warning("cannot report to Redis: %s", error)

    @property
    def device(self) -> str:
        """Where its engine runs; empty until it has loaded."""
        return self._facts.device if self._facts else ""

    @property
    def held(self) -> int:
        """How many attempts it has."""
        return len(self._running) + self._inbox.qsize()

    def hand_back(self) -> None:
        """Return what was running to the front of the queue, to be continued by another worker. After `run`, and
        once no slot takes jobs any more: one of them would take them up again."""
        self._take_new()
        try:
            for attempt in self._running.values():
                log.info("%s goes back to the queue: %s", attempt.job.id, self._store.hand_back(attempt.job))
                reach("handed_back")
                attempt.over.set()
            if self._failure is None:
                reports.withdraw(self._store.redis, self._name)
        except RedisError as error:
            log.warning("cannot hand jobs back, they are recovered when their leases run out: %s", error)
