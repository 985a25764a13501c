"""The model in process, seen from outside: a handle on the process that holds it and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from bench.sides import BenchError, Generation, Prompt
from engines import wire
from engines.base import EngineSpec


class Reference:
    """A context manager: inside, the model is loaded in a child process and is a `Side`.

    It sleeps when not asked. The times are taken in that process, so the way to it costs nothing.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec

    def __enter__(self) -> Reference:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.reference_process", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._connection = Connection(ours.detach())
        try:
            wire.send(self._connection, "load", asdict(self._spec))
            self._answer()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> Generation:
        """All prompts added to one pipeline, then `step()` until all have ended."""
        answer = self._ask("generate", {"prompts": list(prompts), "max_tokens": max_tokens})
        return Generation(**{**answer, "texts": tuple(answer["texts"])})

    def embed(self, texts: Sequence[str]) -> float:
        """In the batches that the engine would make of them."""
        return float(self._ask("embed", {"texts": list(texts), "as_the_engine": True}))

    def embed_in_order(self, texts: Sequence[str]) -> float:
        """32 texts a call, in their order, as a plain program does; seconds."""
        return float(self._ask("embed", {"texts": list(texts), "as_the_engine": False}))

    def _ask(self, kind: str, body: Any) -> Any:
        wire.send(self._connection, kind, body)
        return self._answer()

    def _answer(self) -> Any:
        try:
            kind, body = wire.receive(self._connection)
        except (EOFError, OSError) as error:
            raise BenchError(f"the model in process died (exit code {self._process.wait()})") from error
        if kind == "failed":
            raise BenchError(f"the model in process failed: {body}")
        return body
