"""Whether a grammar compiles: found out in a process of its own, before any engine sees it.

One that does not compile passes GenAI's `add_request`, and then every step of the engine fails, for all its tasks.
Others take hours or all memory, or crash the process that compiles them.
"""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from engines import wire
from engines.base import Grammar
from engines.errors import GrammarError, GrammarsBusy

#: Time to load a tokenizer, and for one grammar, on a busy machine: beyond `grammar_process.COMPILE_CPU_S` it waits.
START_S = 60.0
COMPILE_S = 15.0
#: How long a process that has closed its socket takes to be gone.
ENDING_S = 1.0
#: How long a grammar waits for those before it.
TURN_S = 30.0
#: Callers that wait for their grammars at once; a caller more is sent away.
MOST_WAITING = 16
#: Verdicts that are remembered.
VERDICTS = 1024

BUSY = "Too many answers of a given form are asked for. Try again later."
TOO_MUCH = "It takes too much time or memory to compile."


class GrammarChecker(Protocol):
    """Thread-safe."""

    def check(self, grammar: Grammar) -> None:
        """Returns when the grammar compiles for the model; raises `GrammarError` when it does not, `GrammarsBusy` when
        that cannot be found out now."""


class CompiledGrammars:
    """Compiles in a child process for the model at `path`. It is started by the first grammar (which then takes as long
    as the tokenizer loads) and stays; one that dies or takes too long is killed, and the next grammar starts another.
    Verdicts are remembered."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(MOST_WAITING)
        self._child: _Child | None = None
        self._verdicts: OrderedDict[bytes, str] = OrderedDict()

    def check(self, grammar: Grammar) -> None:
        """Blocks for milliseconds, up to `COMPILE_S`; once for seconds."""
        key = hashlib.sha256(f"{grammar.kind}\0{grammar.text}".encode()).digest()
        fault = self._verdicts.get(key)
        if fault is None:
            if not self._places.acquire(blocking=False):
                raise GrammarsBusy(BUSY)
            try:
                fault = self._find_out(key, grammar)
            finally:
                self._places.release()
        if fault:
            raise GrammarError(fault)

    def _find_out(self, key: bytes, grammar: Grammar) -> str:
        if not self._turn.acquire(timeout=TURN_S):
            raise GrammarsBusy(BUSY)
        try:
            fault = self._verdicts.get(key)
            if fault is None:
                fault = self._verdicts[key] = self._compile(grammar)
                if len(self._verdicts) > VERDICTS:
                    self._verdicts.popitem(last=False)
            return fault
        finally:
            self._turn.release()

    def _compile(self, grammar: Grammar) -> str:
        if self._child is None:
            self._child = _Child(self._path)
        verdict = self._child.verdict(grammar)
        slow = verdict is None and self._child.alive
        if verdict is None or verdict["ends"]:
            self.close()
        if slow:  # Its processor time would have ended it: it got none.
            raise GrammarsBusy(BUSY)
        return TOO_MUCH if verdict is None else str(verdict["fault"])

    @property
    def pid(self) -> int | None:
        """The child's, while there is one."""
        return self._child.pid if self._child else None

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.end()


class _Child:
    def __init__(self, path: Path) -> None:
        """Start it and wait until it has loaded. Raises `GrammarsBusy` when it does not."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "engines.grammar_process", str(theirs.fileno()), str(path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self.pid = self._process.pid
        self._connection = Connection(ours.detach())
        if self._hear(START_S) is None:
            self.end()
            raise GrammarsBusy("Grammars cannot be compiled here now. Try again later.")

    def verdict(self, grammar: Grammar) -> wire.Message | None:
        """What it says of a grammar; None when it died of it or said nothing in time."""
        with suppress(OSError):
            wire.send(self._connection, "compile", {"kind": grammar.kind, "text": grammar.text})
        heard = self._hear(COMPILE_S)
        return heard[1] if heard else None

    @property
    def alive(self) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_S)
        return self._process.poll() is None

    def _hear(self, timeout_s: float) -> tuple[str, wire.Message] | None:
        try:
            return wire.receive(self._connection) if self._connection.poll(timeout_s) else None
        except (EOFError, OSError):
            return None

    def end(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()


class AnyGrammar:
    """The fake engine's: it follows none, so all are fine."""

    def check(self, grammar: Grammar) -> None: ...
