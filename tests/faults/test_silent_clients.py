"""Clients that begin a request and do not go on with it."""

import socket
from contextlib import ExitStack

import httpx

from tests.e2e.servers import closed
from tests.faults.test_redis import Impatient
from tests.support.waiting import until

BEGUN = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"


def test_requests_that_are_not_gone_on_with_give_their_threads_back():
    server = Impatient(api_threads=18).start()
    try:
        server.until_ready()
        with ExitStack() as stack:
            for _ in range(30):
                begun = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                begun.sendall(BEGUN)

            def answers() -> bool:
                try:
                    return httpx.get(server.url + "/health/liveness", timeout=1).status_code == 200
                except httpx.HTTPError:
                    return False

            until(answers, 20, "an answer beside clients that are silent")
    finally:
        closed(server)
