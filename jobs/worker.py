"""The worker process: RQ workers as slots, one a thread, around one engine host in the main thread."""

from __future__ import annotations

import logging
import signal
import threading
import time
from functools import partial
from typing import Any

from redis.exceptions import RedisError
from rq import SimpleWorker
from rq.executions import Execution
from rq.job import Job as RQJob
from rq.timeouts import BaseDeathPenalty

from jobs import keys
from jobs.config import WorkerConfig
from jobs.connection import connect, connect_rq
from jobs.host import EngineHost
from jobs.process_name import process_name
from jobs.record import new_id
from jobs.runner import HEARTBEAT_S, Slot, enter
from jobs.store import JobStore
from scheduler.queue import EngineQueue, engine_queue

log = logging.getLogger("npu_proxy.worker")

#: RQ forgets a slot that it has not heard of for a minute more than this. Seconds.
SLOT_TTL_S = 30
BEAT_S = 5.0
RESTART_PAUSE_S = 1.0
#: How long a slot may take to end when its worker is told to. Seconds.
STOP_WAIT_S = 2.0


class NoPenalty(BaseDeathPenalty):
    """RQ's job timeout, switched off: an alarm cannot reach a slot's thread, nor stop a device. The host's deadline
    does."""

    def setup_death_penalty(self) -> None: ...

    def cancel_death_penalty(self) -> None: ...


class EngineWorker(SimpleWorker):
    """One slot: an RQ worker in a thread, on one queue (with more, RQ's pop would not be crash-safe)."""

    death_penalty_class = NoPenalty
    queue_class = EngineQueue
    #: When Redis comes back, no slot sleeps on for long. Seconds.
    max_connection_wait_time = 1.0
    _beaten = float("-inf")
    _job: RQJob
    _execution: Execution | None = None

    def _install_signal_handlers(self) -> None:
        """Signals are the main thread's."""

    def subscribe(self) -> None:
        """No connection for RQ's own commands: cancel goes by the job's record, stop by the host."""

    def unsubscribe(self) -> None: ...

    def get_heartbeat_ttl(self, job: RQJob, working_time: float = 0.0) -> int:
        return int(3 * HEARTBEAT_S)

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Tell RQ that this slot is alive; not before every job, and in one round trip."""
        if pipeline is not None:
            super().heartbeat(timeout, pipeline)
        elif time.monotonic() - self._beaten >= BEAT_S:
            self._beaten = time.monotonic()
            with self.connection.pipeline(transaction=False) as pipe:
                super().heartbeat(timeout, pipe)
                pipe.execute()

    def prepare_job_execution(self, job: RQJob, remove_from_intermediate_queue: bool = False) -> None:
        """Nothing: the record of the job is ours, and its id stays in the intermediate list until it is claimed, so
        that a worker that dies in between loses nothing."""

    def _finalize_success(self, job: RQJob, queue: Any, execution: Execution | None, return_value: Any) -> None:
        """Take the job off RQ's books, in one round trip: it has no result, dependents, callbacks or retries there."""
        with self.connection.pipeline(transaction=False) as pipe:
            self.increment_successful_job_count(pipeline=pipe)
            if self._execution is not None:
                self.cleanup_execution(job, pipeline=pipe, execution=self._execution)
            pipe.delete(job.key)
            pipe.execute()

    def _finalize_failure(self, job: RQJob, queue: Any, execution: Execution | None, exc_info: Any) -> None:
        """Take the run's execution off RQ's books too, which `perform_job` was not given."""
        super()._finalize_failure(job, queue, self._execution, exc_info)  # type: ignore[arg-type]

    def execute_job(self, job: RQJob, queue: Any) -> None:
        """Run a job in this thread; `beat` meanwhile."""
        self._job, self._execution = job, None
        self.perform_job(job, queue, None)  # type: ignore[arg-type]  # Only passed on to `_finalize_…`.

    def beat(self) -> None:
        """Tell RQ that this slot's job runs, and later that it is alive."""
        try:
            if self._execution is None:
                self._execution = self.prepare_execution(self._job)
            else:
                self.maintain_heartbeats(self._job, self._execution)
        except RedisError as error:
            log.warning("no heartbeat: %s", error)


def run_worker(config: WorkerConfig) -> int:
    """Run a worker in this process's main thread until SIGTERM or SIGINT; the exit code. Blocks.

    Its running jobs then go back to the front of the queue. 1 when the model loads on no device.
    """
    name = process_name(config.engine.kind)
    store = JobStore(connect(config.redis_url, resend=False), config.batch_share)
    EngineQueue.stopping = threading.Event()
    EngineQueue.pick = partial(store.pick, config.engine.kind)
    EngineQueue.wake_list = f"{keys.fair(config.engine.kind)}:wake"
    slots: list[threading.Thread] = []

    def start_slots(count: int) -> None:
        for _ in range(count):
            thread = threading.Thread(target=_serve_slot, args=(config, host, store, name), daemon=True)
            thread.start()
            slots.append(thread)

    host = EngineHost(store, config, name, start_slots)

    def stop(signum: int, frame: object) -> None:
        EngineQueue.stopping.set()
        host.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    code = host.run()
    EngineQueue.stopping.set()
    give_up_at = time.monotonic() + STOP_WAIT_S
    while sum(slot.is_alive() for slot in slots) > host.held and time.monotonic() < give_up_at:
        time.sleep(0.02)
    host.hand_back()
    for slot in slots:
        slot.join(max(0.0, give_up_at - time.monotonic()))
    return code


def _serve_slot(config: WorkerConfig, host: EngineHost, store: JobStore, worker: str) -> None:
    """A slot's thread: an RQ worker, made anew when RQ's loop gives up (after a long absence of Redis, say)."""
    while not EngineQueue.stopping.is_set():
        connection = connect_rq(config.redis_url)
        try:
            rq_worker = EngineWorker(
                [engine_queue(connection, config.engine.kind)],
                name=new_id(config.engine.kind),
                connection=connection,
                worker_ttl=SLOT_TTL_S,
                serializer="json",
                log_job_description=False,
            )
            enter(Slot(host, store, config.engine.kind, worker, rq_worker.beat))
            rq_worker.work(logging_level="WARNING")
        except Exception as error:
            log.warning("a slot of %s ended (%s), starting it again", config.engine.kind, error)
        finally:
            connection.close()
        EngineQueue.stopping.wait(RESTART_PAUSE_S)
