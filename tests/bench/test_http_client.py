"""The lean client's reading of what it kept, against a server of canned bytes."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.http_client import Connection, run_all
from bench.sides import BenchError


def chunk(text: str) -> bytes:
    body = text.encode()
    return b"%x\r\n%b\r\n" % (len(body), body)


def event(delta: dict[str, str], reason: str | None = None) -> str:
    return data({"choices": [{"delta": delta, "finish_reason": reason}]})


def data(body: object) -> str:
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n"


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
USAGE = {"completion_tokens": 2, "prompt_tokens": 30, "total_tokens": 32}
LAST = event({}, "length") + data({"choices": [], "usage": USAGE}) + "data: [DONE]\n\n"
STREAM = [
    HEAD + chunk(event({"role": "assistant", "content": ""}) + ": in_progress\n\n"),
    chunk(event({"content": "Hé"})),
    chunk(event({"content": " 0\r\n\r\n"})),
    chunk(LAST) + b"0\r\n\r\n",
]


@contextmanager
def server(pieces: list[bytes]) -> Iterator[Connection]:
    """Answers one request with the pieces, each once the one before it has been received."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.recv(65_536)
                for piece in pieces:
                    connection.sendall(piece)

        thread = threading.Thread(target=answer)
        thread.start()
        host, port = listener.getsockname()
        client = Connection(host, port)
        yield client
        client.socket.close()
        thread.join()


def test_a_stream_is_read_whole() -> None:
    with server(STREAM) as connection:
        [answer] = run_all([connection], "/", [b"{}"])
    end = answer.check_stream()
    assert (end.text, end.tokens, end.prompt_tokens) == ("Hé 0\r\n\r\n", 2, 30)
    assert 0 < answer.first_s <= answer.last_s


def test_the_opening_chunk_is_no_first_text() -> None:
    with server([STREAM[0], chunk(LAST) + b"0\r\n\r\n"]) as connection:
        [answer] = run_all([connection], "/", [b"{}"])
    assert answer.first_s == 0
    with pytest.raises(BenchError, match="ended early"):
        answer.check_stream()


def test_a_refusal_says_what_the_server_said() -> None:
    with server([b"HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\n\r\nfull"]) as connection:
        [answer] = run_all([connection], "/", [b"{}"])
    with pytest.raises(BenchError, match="429 Too Many: full"):
        answer.check_stream()


def test_an_error_within_a_stream_is_told() -> None:
    error = chunk(data({"error": {"message": "engine died"}}))
    with server([STREAM[0], error + b"0\r\n\r\n"]) as connection:
        [answer] = run_all([connection], "/", [b"{}"])
    with pytest.raises(BenchError, match="engine died"):
        answer.check_stream()


def test_a_connection_that_breaks_is_an_error() -> None:
    with server(STREAM[:2]) as connection, pytest.raises(BenchError, match="closed a connection early"):
        run_all([connection], "/", [b"{}"])
