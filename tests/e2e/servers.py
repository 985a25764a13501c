"""`npu-proxy serve` as a user starts it, on a port of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import psutil

from cli.settings import ENV_PREFIX
from tests.support.waiting import until
from tests.support.workers import ROOT, end, gone

FAKE_LLM, FAKE_EMBED = "smollm2:135m", "all-minilm"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def environment(**settings: Any) -> dict[str, str]:
    """This process's environment with these settings and no others."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith(ENV_PREFIX) and k != "REDIS_URL"}
    mine |= {"NPU_PROXY_CONFIG": os.devnull, "NO_PROXY": "127.0.0.1"}
    return mine | {ENV_PREFIX + name.upper(): str(value) for name, value in settings.items()}


class Server:
    """A server with all its processes. `close` it in every case; without settings, with the fake engine."""

    command: tuple[str, ...] = ("-m", "cli", "serve")

    def __init__(self, **settings: Any) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Pytest's own folders have paths that may be too long for a socket.
        self._folder = tempfile.TemporaryDirectory(prefix="np")
        self.data_dir = Path(self._folder.name)
        self._log = tempfile.TemporaryFile("w+")
        self._seen: set[int] = set()
        self._settings = {"backend": "fake", "port": self.port, "data_dir": self.data_dir, **settings}

    def start(self) -> "Server":
        """Start it; returns at once."""
        self.process = subprocess.Popen(
            [sys.executable, *self.command],
            cwd=ROOT,
            env=environment(**self._settings),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        return self

    def until_ready(self, timeout_s: float = 30.0) -> "Server":
        """Returns when every engine takes work."""
        until(lambda: self.health().get("status") == "ok", timeout_s, "a server that is ready")
        self.family()
        return self

    def health(self) -> dict[str, Any]:
        """What it says of itself; empty while it does not answer."""
        assert self.process.poll() is None, self.log
        try:
            found: dict[str, Any] = httpx.get(self.url + "/health", timeout=5).json()
        except (httpx.HTTPError, json.JSONDecodeError):
            return {}
        return found

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def family(self) -> dict[int, str]:
        """Its processes with their command lines; remembered, so that `close` can tell which outlived it."""
        family = {}
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                family[process.pid] = " ".join(process.cmdline())
            except psutil.Error:
                continue
        self._seen |= set(family)
        return family

    def pids(self, part: str) -> list[int]:
        """The processes whose command line has this in it."""
        return [pid for pid, command in self.family().items() if part in command]

    def api_pids(self) -> list[int]:
        """gunicorn's arbiter, then its worker."""
        return sorted(self.pids("-m cli api") or self.pids("npu-proxy-api"))

    def close(self) -> list[str]:
        """End it as Ctrl-C does, and say what was wrong with that."""
        complaints = []
        if self.process.poll() is None:
            self.family()
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                complaints.append(f"serve did not end on Ctrl-C:\n{self.log}")
                self.process.kill()
                self.process.wait()
        for pid in self._seen:
            try:
                until(lambda pid=pid: gone(pid), 5, "the end")  # type: ignore[misc]
            except AssertionError:
                complaints.append(f"process {pid} outlived its server")
                end(pid)
        # Workers may tell at length that Redis is away; the API has an answer to everything.
        if "api    │ Traceback" in self.log:
            complaints.append(f"an unexpected error in the log:\n{self.log[-4000:]}")
        self._log.close()
        self._folder.cleanup()
        return complaints


def closed(server: Server) -> None:
    """Close a server; fails when something was wrong."""
    complaints = server.close()
    assert not complaints, "\n".join(complaints)
