"""A worker's handle on its engine process: start it, speak to it, see that it died."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from engines import wire
from engines.base import EngineSpec, Task


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
        self._socket = ours
        self.connection = Connection(os.dup(ours.fileno()))
        self._outbox: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="engine-writer", daemon=True)
        self._writer.start()
        self._outbox.put(("load", asdict(spec)))

    def _write(self) -> None:
        """Sends, on a thread of its own: both ends may have more to say than a socket holds, and if each waited until
        the other reads, neither ever would."""
        try:
            while (message := self._outbox.get()) is not None:
                wire.send(self.connection, *message)
        except OSError:
            pass  # `receive` tells that the process is gone.

    @property
    def pid(self) -> int:
        return self._process.pid

    def submit(self, task: Task) -> None:
        """Hand over a task; returns at once. That the process is gone is told by `receive` alone."""
        self._outbox.put(("submit", wire.task_to(task)))

    def cancel(self, task_id: str) -> None:
        """Stop a task at the next step; returns at once."""
        self._outbox.put(("cancel", task_id))

    def receive(self) -> tuple[str, Any]:
        """The next message; blocks. EOFError or OSError when the process is gone."""
        return wire.receive(self.connection)

    def end(self, grace_s: float = 0.0) -> str:
        """Reap the process, killed if it still runs after `grace_s`; how it ended, in words."""
        self._outbox.put(None)
        with suppress(OSError):  # The other end has closed it, or this was called before.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._writer.join()
        self.connection.close()
        self._socket.close()
        try:
            code = self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
