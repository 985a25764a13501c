"""Waiting for a job on behalf of a client: with an eye on the client, and within the places there are."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import chain
from typing import Any

from flask import request
from redis.exceptions import RedisError

from api.errors import LostSight, ServerStops, TooBusy
from api.services import Services
from jobs.events import START, Event
from jobs.hub import Follower
from jobs.record import Job
from jobs.store import now_ms

#: How often a silent wait looks whether its client is still there. Seconds.
LOOK_S = 0.25
#: A client that takes nothing for so long has left: without this its thread would block in a write for ever. Seconds.
SEND_WAIT_S = 30
#: How long Redis may be away while a client waits for an accepted job; a restart of it takes less. Seconds.
AWAY_S = 20.0
#: An event in time is worth waiting for before headers go out, so that they can tell queue time and device. Seconds.
START_WAIT_S = 0.5
#: The event by which Linux tells that a client hung up, even behind bytes that nobody has read; elsewhere a read tells.
_HUNG_UP: int = getattr(select, "POLLRDHUP", 0)


class ClientGone(Exception):
    """The client closed its connection; nobody reads the answer."""


class Waiter:
    """Follows one job for one client. Closes itself when the job is done; `close` it in every other case.

    With `cancel_on_leave` the job is cancelled if its client leaves before its end. That this process ends is no
    client's leaving: the job runs on.
    """

    def __init__(self, services: Services, job: Job, *, cancel_on_leave: bool, after: str = START) -> None:
        """Takes a place and subscribes to the job's events, which need not exist yet. Raises `TooBusy`."""
        self._services = services
        self.job = job
        self._cancel_on_leave = cancel_on_leave
        self._socket = request.environ.get("gunicorn.socket")
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_WAIT_S, 0))
        self._done = False
        #: When to look whether the job should have ended: at its first deadline, then every second.
        self._late_ms = min(job.queue_deadline_ms, job.created_ms + job.run_timeout_ms)
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._stack.enter_context(_place(services.places))
        try:
            subscription: AbstractContextManager[Follower] = services.hub.subscribed(job.id)
            follower = self._stack.enter_context(subscription)
            self._events = self._follow(follower, after)
        except BaseException:
            self._stack.close()
            raise

    def events(self) -> Iterator[Event | None]:
        """The job's events; None after `keepalive_s` of silence. Raises `ClientGone`, `LostSight` and `ServerStops`."""
        keepalive_s = self._services.config.keepalive_s
        spoke = looked = time.monotonic()
        for event in self._events:
            now = time.monotonic()
            if event is not None and event.name == "done":
                self._done = True
            elif now - looked >= LOOK_S or event is None:
                looked = now
                if client_gone(self._socket):
                    raise ClientGone
            if self._services.stopping.is_set() and not self._done:
                self._cancel_on_leave = False
                raise ServerStops(self.job.id)
            if event is not None:
                yield event
                spoke = time.monotonic()
            elif now - spoke >= keepalive_s:
                yield None
                spoke = time.monotonic()

    def _follow(self, follower: Follower, after: str) -> Iterator[Event | None]:
        """The job's events, None about every `LOOK_S` of silence. Goes on by itself when Redis comes back in time;
        raises `LostSight` when it does not."""
        away_since: float | None = None
        while True:
            try:
                for event in follower.follow(after, tick_s=LOOK_S):
                    if event is not None:
                        after = event.id
                    elif now_ms() > self._late_ms:
                        self._late_ms = now_ms() + 1000
                        self._services.store.expire_if_late(self.job.engine, self.job.id)
                    away_since = None
                    yield event
                return
            except RedisError as error:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > AWAY_S:
                    raise self._lost_sight() from error
                yield None
                time.sleep(LOOK_S)

    def started(self) -> Event | None:
        """The event that says that the job runs, if it comes within `START_WAIT_S`; for headers to tell of it."""
        give_up_at = time.monotonic() + START_WAIT_S
        for event in self._events:
            if event is None:
                if time.monotonic() >= give_up_at:
                    return None
            elif event.name == "status":
                if event.json()["status"] == "in_progress":
                    return event
            else:
                self._events = chain([event], self._events)
                return None
        return None

    def result(self) -> Job:
        """Wait for the end; the job as it is then."""
        for _ in self.events():
            pass
        return self.final()

    def final(self) -> Job:
        """The job's record after its last event; waits for a Redis that is away. Raises `LostSight`."""
        give_up_at = time.monotonic() + AWAY_S
        while True:
            try:
                return self._services.store.get(self.job.id) or self.job
            except RedisError as error:
                if time.monotonic() > give_up_at:
                    raise self._lost_sight() from error
                time.sleep(LOOK_S)

    def _lost_sight(self) -> LostSight:
        """The client is told that its job may still run, so it must."""
        self._cancel_on_leave = False
        return LostSight(self.job.id)

    def close(self) -> None:
        """Give the place back; if the job is not done, its client has left. Any number of times, from any thread."""
        with self._lock:
            self._stack.close()
            if self._cancel_on_leave and not self._done:
                self._done = True
                self._services.unwanted.cancel(self.job)


class _place(AbstractContextManager[None]):
    def __init__(self, places: threading.BoundedSemaphore) -> None:
        self._places = places

    def __enter__(self) -> None:
        if not self._places.acquire(blocking=False):
            raise TooBusy

    def __exit__(self, *_: object) -> None:
        self._places.release()


def client_gone(connection: Any) -> bool:
    """Whether a client has closed its side, or the half of it that sends. A WSGI server tells this only at the second
    write after it, so the socket itself is asked; False where there is none (tests without a server)."""
    if connection is None:
        return False
    try:
        if _HUNG_UP:
            poll = select.poll()
            poll.register(connection, _HUNG_UP)
            return bool(poll.poll(0))
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"")
    except (BlockingIOError, InterruptedError):
        return False
    except (OSError, ValueError):
        return True
