"""A client that takes as little of the machine as can be: it shares the cores with what it measures.

While the clock runs it only receives, looks for the first text until that is there, and for the end.
Everything else is read from the bytes kept, afterwards.
"""

from __future__ import annotations

import json
import re
import select
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.sides import BenchError

#: A chunk with text: the opening one has an empty `content`. `text` is that of plain completions.
_FIRST_TEXT = re.compile(rb'"(?:content|text)":"[^"]')
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CHUNK = re.compile(rb"([0-9a-fA-F]+)\r\n")
#: The last piece of a body sent in chunks (RFC 9112, 7.1).
_LAST_CHUNK = b"0\r\n\r\n"
#: The longest silence that is waited for. Seconds.
SILENCE_S = 120.0


class Connection:
    """One connection, kept open for request after request as any client's is."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self.host = f"{host}:{port}"
        self._open()

    def _open(self) -> None:
        self.socket = socket.create_connection(self._address, timeout=SILENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def refresh(self) -> None:
        """Open it anew if the server has closed it in the meantime."""
        readable, _, _ = select.select([self.socket], [], [], 0)
        if readable:
            self.socket.close()
            self._open()

    def post(self, path: str, body: bytes) -> bytes:
        """The bytes of a request with a JSON body, to be sent on this connection."""
        lines = (
            f"POST {path} HTTP/1.1",
            f"Host: {self.host}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        return "\r\n".join([*lines, "", ""]).encode() + body

    def close(self) -> None:
        """Close it; the server cancels what it was still answering."""
        self.socket.close()


@dataclass(frozen=True)
class StreamEnd:
    """What a stream said in all."""

    text: str
    tokens: int
    prompt_tokens: int


@dataclass
class Answer:
    """The bytes of one answer. Seconds since the first request was sent; 0 for what has not come."""

    raw: bytearray = field(default_factory=bytearray)
    first_s: float = 0.0
    last_s: float = 0.0
    #: Bytes in all, once the head has told; 0 for a body in chunks.
    _size: int | None = None

    @property
    def whole(self) -> bool:
        """Whether the last byte is there. Asked after each piece, so it looks at the head only once."""
        if self._size is None:
            head, end, _ = self.raw.partition(b"\r\n\r\n")
            if not end:
                return False
            length = _LENGTH.search(head)
            self._size = len(head) + len(end) + int(length[1]) if length else 0
        return len(self.raw) >= self._size if self._size else self.raw.endswith(_LAST_CHUNK)

    def take(self, data: bytes, now_s: float) -> bool:
        """Add what came; whether the answer is whole. Raises `BenchError` for no bytes: the end of the connection."""
        if not data:
            raise BenchError(f"the server closed a connection early: {bytes(self.raw[-300:])!r}")
        self.raw += data
        self.last_s = now_s
        if not self.first_s and _FIRST_TEXT.search(self.raw):
            self.first_s = now_s
        return self.whole

    def body(self) -> bytes:
        """The body without its transfer encoding. Raises `BenchError` unless the status is 200."""
        head, _, body = bytes(self.raw).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"the server answered {head.splitlines()[0].decode()}: {body[:500].decode()}")
        return body if _LENGTH.search(head) else without_chunks(body)

    def check_stream(self) -> StreamEnd:
        """Read the stream's chunks. Raises `BenchError` when it did not end as ordered, at the last token."""
        text, reason, usage = "", None, None
        for line in self.body().splitlines():
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[len(b"data: ") :])
            if "error" in chunk:
                raise BenchError(f"the stream ended with an error: {chunk['error']}")
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                text += choice["delta"].get("content") or ""
                reason = choice["finish_reason"] or reason
        if reason != "length" or usage is None or not self.first_s:
            raise BenchError(f"the stream ended early ({reason}): {bytes(self.raw[-300:])!r}")
        return StreamEnd(text, usage["completion_tokens"], usage["prompt_tokens"])


def run_all(connections: Sequence[Connection], path: str, bodies: Sequence[bytes]) -> list[Answer]:
    """Send each body on its connection, all at the same moment; the answers when all are whole. Blocks.

    Raises `BenchError` after `SILENCE_S` without a byte, or when one breaks.
    """
    for connection in connections:
        connection.refresh()
    answers = [Answer() for _ in bodies]
    requests = [c.post(path, body) for c, body in zip(connections, bodies, strict=True)]
    with selectors.DefaultSelector() as selector:
        for connection, answer in zip(connections, answers, strict=True):
            selector.register(connection.socket, selectors.EVENT_READ, answer)
        begun_s = time.perf_counter()
        for connection, request in zip(connections, requests, strict=True):
            connection.socket.sendall(request)
        while selector.get_map():
            ready = selector.select(SILENCE_S)
            if not ready:
                raise BenchError(f"the server said nothing for {SILENCE_S:g} s")
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(65_536)
                if key.data.take(data, time.perf_counter() - begun_s):
                    selector.unregister(key.fileobj)
    return answers


def without_chunks(body: bytes) -> bytes:
    """The content of a body sent in chunks (RFC 9112, 7.1)."""
    content, at = bytearray(), 0
    while (size := _CHUNK.match(body, at)) and (length := int(size[1], 16)):
        content += body[size.end() : size.end() + length]
        at = size.end() + length + 2
    return bytes(content)
