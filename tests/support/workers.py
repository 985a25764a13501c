"""Real worker processes."""

import json
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from redis import Redis

from engines.base import EngineSpec
from jobs import reports
from jobs.config import WorkerConfig
from jobs.host import FIRST_PAUSE_S, REPORT_S
from jobs.recovery import POPPED_LIMIT_S
from jobs.reports import Report
from jobs.store import LEASE_MS
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Rules:
    """In what a test's worker differs from one that `cli` starts: shorter waits, or where it dies (`published 3`: at
    that fault point, when it has passed it three times)."""

    lease_ms: int = LEASE_MS
    popped_limit_ms: int = int(1000 * POPPED_LIMIT_S)
    #: Between two looks for lost jobs, and for an engine that hangs.
    report_ms: int = int(1000 * REPORT_S)
    engine_grace_s: float = WorkerConfig.engine_grace_s
    armed: str = ""


AS_SERVED = Rules()


def gone(pid: int) -> bool:
    """Whether a process has ended; whoever is its parent now may not have reaped it yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end(pid: int) -> None:
    """kill -9 that process, if it is still there."""
    try:
        psutil.Process(pid).kill()
    except psutil.NoSuchProcess:
        pass


class Worker:
    """One worker process, with the engine process it has started."""

    def __init__(self, redis: Redis, url: str, spec: EngineSpec, rules: Rules = AS_SERVED) -> None:
        self._redis = redis
        self._folder = tempfile.TemporaryDirectory(prefix="npw-")
        self._orders = Path(self._folder.name, "orders")
        self._log = Path(self._folder.name, "log")
        self._engines: set[int] = set()
        told = [json.dumps(asdict(spec)), json.dumps(asdict(rules)), str(self._orders)]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.worker_main", url, *told],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def report(self) -> Report | None:
        """Its last report."""
        return next((r for r in reports.read_all(self._redis) if r.name.endswith(f"-{self.pid}")), None)

    def until_ready(self) -> "Worker":
        def ready() -> bool:
            assert self.process.poll() is None, self.log
            report = self.report()
            return report is not None and report.state == "ready"

        until(ready, what="a worker that is ready")
        self.engine_pid()
        return self

    def engine_pid(self) -> int:
        """The engine process it has now."""
        children = psutil.Process(self.pid).children()
        assert len(children) == 1, children
        self._engines.add(children[0].pid)
        return children[0].pid

    def crash_engine(self, how: signal.Signals = signal.SIGKILL) -> int:
        """Send the engine process that signal, which ends it; the pid that it had."""
        pid = self.engine_pid()
        psutil.Process(pid).send_signal(how)
        until(lambda: gone(pid), what="the end of the engine")
        return pid

    def engine_starts_s(self) -> list[float]:
        """How long each engine after the first took from the start of its process until it was ready, as logged."""
        moments = re.findall(r"^([0-9.]+) .*(the engine process ended|ready on)", self.log, re.MULTILINE)
        starts = [(float(end[0]), float(ready[0])) for end, ready in zip(moments[1::2], moments[2::2], strict=False)]
        return [ready - end - FIRST_PAUSE_S for end, ready in starts]

    def until_new_engine(self, old: int) -> None:
        """Wait for the engine after `old`, ready."""

        def new() -> bool:
            pids = {child.pid for child in psutil.Process(self.pid).children()} - {old}
            report = self.report()
            return bool(pids) and report is not None and report.state == "ready"

        until(new, what="a new engine")
        self.engine_pid()

    def arm(self, point: str, passes: int = 0) -> None:
        """Have it die at a fault point when it has passed it so often; from now on, not from its start as
        `Rules.armed`."""
        self._orders.write_text(f"{point} {passes}")
        self.process.send_signal(signal.SIGUSR1)
        until(lambda: not self._orders.exists(), what="a worker that is armed")

    def until_dead(self, timeout_s: float = 30) -> None:
        """Wait for the death that a fault point brings."""
        assert self.process.wait(timeout_s) == -signal.SIGKILL, self.log

    def terminate(self) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(10)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def close(self) -> list[str]:
        """End it and say what it left behind: nothing, when all is well."""
        complaints = []
        if self.process.poll() is None:
            self._engines |= {child.pid for child in psutil.Process(self.pid).children()}
            self.kill()
        for pid in self._engines:
            try:
                until(lambda pid=pid: gone(pid), 5, "the engine's end")  # type: ignore[misc]
            except AssertionError:
                complaints.append(f"engine {pid} outlived its worker")
                end(pid)
        self._folder.cleanup()
        return complaints
