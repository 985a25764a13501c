"""A worker's handle on its engine process: start it, speak to it, see that it died."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from engines import wire
from engines.base import EmbedTask, EngineSpec, GenerateTask


class EngineProcess:
    """One run of an engine process. Used by one thread; start it from the thread that lives longest: on Linux
    the kernel ends it with that thread."""

    def __init__(self, spec: EngineSpec) -> None:
        """Start the process and tell it what to load; returns at once. `ready` or `failed` comes as a message."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "engines.process", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self.connection = Connection(ours.detach())
        wire.send(self.connection, "load", asdict(spec))

    @property
    def pid(self) -> int:
        return self._process.pid

    def submit(self, task: GenerateTask | EmbedTask) -> None:
        """Hand over a task. OSError when the process is gone."""
        wire.send(self.connection, "submit", wire.task_to(task))

    def cancel(self, task_id: str) -> None:
        """Stop a task at the next step. OSError when the process is gone."""
        wire.send(self.connection, "cancel", task_id)

    def receive(self) -> tuple[str, Any]:
        """The next message; blocks. EOFError or OSError when the process is gone."""
        return wire.receive(self.connection)

    def end(self, grace_s: float = 0.0) -> str:
        """Reap the process, killed if it still runs after `grace_s`; how it ended, in words."""
        self.connection.close()
        try:
            code = self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
