"""Clients on bare sockets, which leave in every way that a client can, and the jobs they leave behind."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cli.redis_server import redis_url
from cli.settings import Settings
from jobs.connection import connect
from jobs.record import Job
from jobs.store import JobStore
from tests.e2e.servers import FAKE_LLM, Server
from tests.support.waiting import LIMIT_S, until

CHAT = "/v1/chat/completions"


@contextmanager
def store_of(server: Server) -> Iterator[JobStore]:
    """The jobs of a server, as its own processes see them."""
    with connect(redis_url(Settings(data_dir=server.data_dir))) as redis:
        yield JobStore(redis)


class Caller:
    """Sends one chat; what comes is read by `read`, and else waits in the socket."""

    def __init__(self, server: Server, name: str, *, window_bytes: int = 0, **body: Any) -> None:
        """`name` is that of the job, for `job`; `window_bytes` is how much the client takes without reading."""
        self.name = name
        self.left_ms = 0
        chat = {"model": FAKE_LLM, "messages": [{"role": "user", "content": "x"}], "metadata": {"name": name}, **body}
        content = json.dumps(chat).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        self.socket = socket.socket()
        self.socket.settimeout(30)
        if window_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.sendall(head.encode() + content)

    def job(self, store: JobStore, is_there: Callable[[Job], bool]) -> Job:
        """Its job, once it is as wanted."""

        def found() -> Job | None:
            jobs = store.list("local", 200)
            return next((j for j in jobs if j.metadata.get("name") == self.name and is_there(j)), None)

        return until(found, what=f"the job of {self.name}")  # type: ignore[return-value]

    def leave(self, how: str) -> None:
        """`close` the connection; `reset` it; or close only the `half` that sends."""
        if how == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.left_ms = int(time.time() * 1000)
        if how == "half":
            self.socket.shutdown(socket.SHUT_WR)
        else:
            self.socket.close()

    def rest(self) -> bytes:
        """What still comes until the server closes."""
        found = b""
        while data := self.socket.recv(65536):
            found += data
        return found

    def close(self) -> None:
        self.socket.close()


#: How a client may leave: see `Caller.leave`.
WAYS = ("close", "reset", "half")


def ended(store: JobStore, job: Job, timeout_s: float = LIMIT_S) -> Job:
    """The job, once it is over."""

    def over() -> Job | None:
        now = store.get(job.id)
        return now if now is not None and now.final else None

    return until(over, timeout_s, f"the end of {job.id}")  # type: ignore[return-value]


def made(job: Job) -> int:
    """The tokens that a job that ran and is over had made for it."""
    assert job.outcome is not None
    return job.outcome.usage.completion_tokens
