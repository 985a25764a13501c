"""Real worker processes."""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import psutil
from redis import Redis

from engines.base import EngineSpec
from jobs import reports
from jobs.reports import Report
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


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

    def __init__(self, redis: Redis, url: str, spec: EngineSpec) -> None:
        self._redis = redis
        self._log = tempfile.TemporaryFile("w+")
        self._engines: set[int] = set()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.worker_main", url, json.dumps(asdict(spec))],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=self._log,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

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

    def crash_engine(self) -> int:
        """kill -9 the engine process; the pid that it had."""
        pid = self.engine_pid()
        end(pid)
        until(lambda: gone(pid), what="the end of the engine")
        return pid

    def until_new_engine(self, old: int) -> None:
        """Wait for the engine after `old`, ready."""

        def new() -> bool:
            pids = {child.pid for child in psutil.Process(self.pid).children()} - {old}
            report = self.report()
            return bool(pids) and report is not None and report.state == "ready"

        until(new, what="a new engine")
        self.engine_pid()

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
        self._log.close()
        return complaints
