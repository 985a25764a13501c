"""A user who floods the server: real HTTP clients that ask again as soon as they are answered."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType

from bench.http_client import Answer, Connection
from bench.server import CHAT_PATH, Server
from bench.sides import BenchError

#: How soon it notices that it is to end. Seconds.
LOOK_S = 0.1
#: Until each of its first requests has been taken or refused. Seconds.
TAKEN_S = 30.0


class Flood:
    """A context manager: inside, one chat a client is outstanding at any moment.

    All clients live in one thread. One whose request fails asks no more, so that errors are counted, not multiplied.
    """

    def __init__(self, server: Server, clients: int, bodies: Iterator[bytes]) -> None:
        """`bodies` are the chats, without end, taken in their order."""
        self._server, self._count, self._bodies = server, clients, bodies
        self._ending = threading.Event()
        self._all_taken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flood")
        #: Chats that were answered whole.
        self.served = 0
        #: One text for each request that was refused or broke.
        self.failures: list[str] = []

    def __enter__(self) -> Flood:
        """Returns when all requests of the first moment are in the line."""
        self._clients = [self._server.connect() for _ in range(self._count)]
        #: When the first was sent, by `time.perf_counter`. Seconds.
        self.begun_s = time.perf_counter()
        self._thread.start()
        try:
            if not self._all_taken.wait(TAKEN_S):
                raise BenchError(f"the server did not take {self._count} chats at once in {TAKEN_S:g} s")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The clients go away; the server cancels what it had still to answer."""
        self._ending.set()
        self._thread.join()
        for client in self._clients:
            client.close()

    def _run(self) -> None:
        silent = set(self._clients)
        with selectors.DefaultSelector() as selector:
            for client in self._clients:
                self._ask(selector, client)
            while not self._ending.is_set():
                for key, _ in selector.select(LOOK_S):
                    client, answer = key.data
                    silent.discard(client)
                    self._hear(selector, client, answer)
                if not silent:
                    self._all_taken.set()

    def _ask(self, selector: selectors.BaseSelector, client: Connection) -> None:
        client.refresh()
        client.socket.sendall(client.post(CHAT_PATH, next(self._bodies)))
        selector.register(client.socket, selectors.EVENT_READ, (client, Answer()))

    def _hear(self, selector: selectors.BaseSelector, client: Connection, answer: Answer) -> None:
        connected: socket.socket = client.socket
        try:
            if not answer.take(connected.recv(65_536), time.perf_counter() - self.begun_s):
                return
            selector.unregister(connected)
            answer.check_stream()
            self.served += 1
            self._ask(selector, client)
        except (BenchError, OSError) as error:
            self.failures.append(str(error))
            if connected in selector.get_map():
                selector.unregister(connected)
