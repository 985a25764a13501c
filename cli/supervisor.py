"""Keeps a few child processes running until it is told to stop, then ends them in order.

One thread does everything, the main one: children must be forked by a thread that lives as long as the
process (see `cli.lifeline`). It sleeps in one selector, which output of a child and signals end.

    run():   a child ended ──▶ wait `restart_delay_s` ──▶ start it again
    stop():  SIGTERM by order of `gone_by` ──▶ SIGKILL to what is not gone by then
             a second signal: SIGKILL at once
"""

import os
import selectors
import signal
import time
from collections.abc import Callable
from itertools import groupby
from types import TracebackType
from typing import Any

from .child import Child, ChildSpec, ending
from .console import Console
from .errors import Failure

#: How late a condition or a restart may be noticed; signals and output end the sleep at once.
TICK_S = 0.1

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

OWN_NAME = "serve"


class Supervisor:
    """The children of this process. A context manager for the main thread: inside, it owns the stop signals.

    Leaving the context stops what still runs, also after an exception.
    """

    def __init__(self, console: Console, shutdown_s: float) -> None:
        self._console = console
        self._shutdown_s = shutdown_s
        self._children: list[Child] = []
        self._signals = 0

    def __enter__(self) -> "Supervisor":
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._outer_wakeup = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._outer_handlers: dict[signal.Signals, Any] = {
            number: signal.signal(number, self._on_stop_signal) for number in STOP_SIGNALS
        }
        # A signal without a handler writes nothing to the wake-up pipe.
        self._outer_handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for number, handler in self._outer_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._outer_wakeup)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    @property
    def told_to_stop(self) -> bool:
        return self._signals > 0

    def start(self, spec: ChildSpec) -> None:
        """Start a child, to be kept running."""
        child = Child(spec)
        self._children.append(child)
        self._selector.register(child.output, selectors.EVENT_READ, child)

    def run_until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        """Block until `condition` holds or a stop signal came.

        Nothing is restarted meanwhile: raises `Failure` when a child ends first, and after `timeout_s`.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self.told_to_stop and not condition():
            for child in self._ended():
                raise Failure(f"{child.spec.name} did not start{_see_log(child)}")
            if time.monotonic() > deadline_s:
                names = ", ".join(child.spec.name for child in self._children)
                raise Failure(f"{names}: not ready after {timeout_s:g} s")
            self._sleep()

    def run(self) -> None:
        """Keep all children running; blocks until a stop signal comes."""
        while not self.told_to_stop:
            for child in self._ended():
                code = child.ended()
                assert code is not None
                how = f"{child.spec.name} ended ({ending(code)}){_see_log(child)}"
                self._say(f"{how}; starts again in {child.delay_s:g} s")
            for child in self._children:
                if child.restart_at_s is not None and time.monotonic() >= child.restart_at_s:
                    child.start()
                    self._selector.register(child.output, selectors.EVENT_READ, child)
            self._sleep()

    def stop(self) -> None:
        """End all children in the order of their `gone_by`; blocks for `shutdown_s` at most."""
        begun_s = time.monotonic()
        in_order = sorted(self._children, key=lambda child: child.spec.gone_by)
        for gone_by, group in groupby(in_order, key=lambda child: child.spec.gone_by):
            self._stop_group(list(group), begun_s + gone_by * self._shutdown_s)
        self._children.clear()

    def _stop_group(self, group: list[Child], deadline_s: float) -> None:
        for child in group:
            child.terminate()
        while any([child.ended() is None for child in group]):
            if self._signals > 1 or time.monotonic() > deadline_s:
                break
            self._sleep()
        for child in group:
            if child.ended() is None:
                self._say(f"{child.spec.name} did not end in time and was killed")
                child.kill()
            self._drop_output(child)

    def _ended(self) -> list[Child]:
        """The children whose end is news."""
        news = [child for child in self._children if child.restart_at_s is None and child.ended() is not None]
        for child in news:
            self._drop_output(child)
        return news

    def _sleep(self) -> None:
        """Pass on what children say until something happens, `TICK_S` at most."""
        for key, _ in self._selector.select(TICK_S):
            if key.data is None:
                os.read(self._wake_read, 4096)
                continue
            child: Child = key.data
            lines = child.read()
            if lines is None:
                # Output can end before the process does; without this the selector would never sleep again.
                self._selector.unregister(child.output)
            for line in lines or ():
                self._console.write(child.spec.name, line)

    def _drop_output(self, child: Child) -> None:
        if child.output.closed:
            return
        if child.output in self._selector.get_map():
            self._selector.unregister(child.output)
        for line in child.close():
            self._console.write(child.spec.name, line)

    def _on_stop_signal(self, *_: object) -> None:
        self._signals += 1

    def _say(self, text: str) -> None:
        self._console.write(OWN_NAME, text)


def _see_log(child: Child) -> str:
    return f", see {child.spec.log}" if child.spec.log else ""
