"""One supervised process: how it is started, what it says, when it may start again."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from . import lifeline
from .console import Lines

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 10.0
#: A child that lived this long is well again: its next end counts as the first.
HEALTHY_AFTER_S = 30.0

READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A process to keep running."""

    name: str
    command: tuple[str, ...]
    #: The whole environment, save what ties the child's life to ours.
    environment: Mapping[str, str]
    #: Where it writes what it does not print.
    log: str = ""
    #: When stopping, the part of the whole time by which it must be gone; lower ones are stopped first.
    gone_by: float = 1.0


def restart_delay_s(previous_s: float, lived_s: float) -> float:
    """How long to wait before a child that lived `lived_s` starts again; `previous_s` was the last wait.

    Doubles from `FIRST_DELAY_S` to `LONGEST_DELAY_S`, and starts anew after `HEALTHY_AFTER_S` of life.
    """
    if previous_s == 0 or lived_s >= HEALTHY_AFTER_S:
        return FIRST_DELAY_S
    return min(2 * previous_s, LONGEST_DELAY_S)


def ending(returncode: int) -> str:
    """A return code of `subprocess` in words."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


class Child:
    """A process started from a `ChildSpec`, with its whole process group and its output."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.delay_s = 0.0
        self.start()

    def start(self) -> None:
        """Start it, or start it again. It dies with the calling thread (see `cli.lifeline`)."""
        self._lines = Lines()
        self.restart_at_s: float | None = None
        self._started_s = time.monotonic()
        self._process = subprocess.Popen(
            self.spec.command,
            env={**self.spec.environment, **lifeline.environment(), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A group of its own: the terminal's Ctrl-C reaches `serve` alone, which stops all in order.
            process_group=0,
        )
        assert self._process.stdout is not None
        self.output = self._process.stdout
        os.set_blocking(self.output.fileno(), False)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was running at the last `ended`."""
        return self._process.returncode is None

    def read(self) -> list[str] | None:
        """The lines it has completed since the last call; None at the end of its output. Does not block."""
        try:
            data = os.read(self.output.fileno(), READ_BYTES)
        except BlockingIOError:
            return []
        return self._lines.feed(data) if data else None

    def ended(self) -> int | None:
        """Its return code once it has ended, and None before; plans the restart. Does not block."""
        code = self._process.poll()
        if code is not None and self.restart_at_s is None:
            now_s = time.monotonic()
            self.delay_s = restart_delay_s(self.delay_s, now_s - self._started_s)
            self.restart_at_s = now_s + self.delay_s
            # What it started and left behind must not work on beside its successor.
            self._signal_group(signal.SIGKILL)
        return code

    def close(self) -> list[str]:
        """Let go of its output; the last lines it wrote. Does not block."""
        lines: list[str] = []
        with self.output, suppress(BlockingIOError):
            while data := os.read(self.output.fileno(), READ_BYTES):
                lines += self._lines.feed(data)
        return lines + self._lines.close()

    def terminate(self) -> None:
        """Ask it, not what it started, to end."""
        if self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it and all it started. Blocks until it is gone, which the kernel does at once."""
        self._signal_group(signal.SIGKILL)
        self._process.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        # PermissionError is macOS's word for a group of zombies.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
