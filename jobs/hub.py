"""Following jobs' events: one pub/sub connection for all the followers of a process, and the log behind it.

A follower first subscribes, then reads the log behind the id it knows, then goes on with what is published, leaving
out ids it has seen: nothing lost, nothing twice. In silence it reads the log again every `RECHECK_S`, so that an event
lost between Redis and here (a broken connection) is late by at most that.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis
from redis.exceptions import RedisError

from jobs import events, keys
from jobs.events import Event

log = logging.getLogger("npu_proxy.hub")

RECHECK_S = 1.0
#: How long to wait for Redis to confirm a subscription before going on by the log alone. Seconds.
CONFIRM_S = 1.0
_RETRY_S = 0.5
_WAIT_S = 60.0
#: Nothing is published there; subscribing to it makes the connection.
_NO_CHANNEL = "npu:live"


class _Subscriber:
    def __init__(self) -> None:
        self.confirmed = threading.Event()
        #: None says that events may have been lost, and the log must be read again before going on.
        self.inbox: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def confirm(self) -> None:
        """Redis confirmed the subscription; a second time it is that of a new connection."""
        if self.confirmed.is_set():
            self.inbox.put(None)
        self.confirmed.set()


class EventHub:
    """Shares one pub/sub connection among a process's followers. Thread-safe; start it after a fork."""

    def __init__(self, redis: Redis, listening: Redis) -> None:
        """`listening` makes the connection; with a time limit on its answers, one to a Redis that stands still ends."""
        self._redis = redis
        self._pubsub = listening.pubsub(ignore_subscribe_messages=False)
        self._lock = threading.Lock()
        #: Whether the connection stands. Only the listening thread makes it: that may take long, and the lock is not
        #: held meanwhile.
        self._connected = False
        self._subscribers: dict[str, set[_Subscriber]] = {}
        self._thread = threading.Thread(target=self._listen, name="event-hub", daemon=True)
        self._started = False

    @contextmanager
    def subscribed(self, job_id: str) -> Iterator[Follower]:
        """Hear a job's events; the job need not exist yet. Does not block: `follow` waits until Redis has confirmed."""
        subscriber = _Subscriber()
        channel = keys.channel(job_id)
        self._add(channel, subscriber)
        try:
            yield Follower(self._redis, job_id, subscriber)
        finally:
            self._remove(channel, subscriber)

    def _add(self, channel: str, subscriber: _Subscriber) -> None:
        with self._lock:
            others = self._subscribers.setdefault(channel, set())
            others.add(subscriber)
            if self._connected:
                try:
                    self._pubsub.subscribe(channel)
                except RedisError as error:
                    log.warning("cannot subscribe: %s", error)
                    self._connected = False
            if not self._connected:
                subscriber.confirmed.set()  # Nothing to wait for: `_listen` subscribes when it has connected.
            if not self._started:
                self._started = True
                self._thread.start()

    def _remove(self, channel: str, subscriber: _Subscriber) -> None:
        with self._lock:
            others = self._subscribers[channel]
            others.discard(subscriber)
            if others:
                return
            del self._subscribers[channel]
            if self._connected:
                try:
                    self._pubsub.unsubscribe(channel)
                except RedisError as error:
                    log.warning("cannot unsubscribe: %s", error)

    def _listen(self) -> None:
        while True:
            try:
                if not self._connected:
                    self._connect()
                message = self._pubsub.get_message(timeout=_WAIT_S)
            except Exception as error:
                log.warning("lost the event connection (%s), followers go on by the log", error)
                self._connected = False
                time.sleep(_RETRY_S)
                continue
            if message is None:
                continue
            with self._lock:
                subscribers = list(self._subscribers.get(message["channel"], ()))
            if message["type"] == "subscribe":
                for subscriber in subscribers:
                    subscriber.confirm()
            elif message["type"] == "message":
                event = Event(*message["data"].split("\n", 2))
                for subscriber in subscribers:
                    subscriber.inbox.put(event)

    def _connect(self) -> None:
        """Blocks until the connection stands, then subscribes to all channels: redis-py forgets those whose SUBSCRIBE
        met a broken connection."""
        self._pubsub.reset()
        self._pubsub.subscribe(_NO_CHANNEL)
        with self._lock:
            if self._subscribers:
                self._pubsub.subscribe(*self._subscribers)
            self._connected = True


class Follower:
    """One reader of one job's events. Used by one thread."""

    def __init__(self, redis: Redis, job_id: str, subscriber: _Subscriber) -> None:
        self._redis = redis
        self._job_id = job_id
        self._subscriber = subscriber

    def follow(self, after: str = events.START, tick_s: float = 1.0) -> Iterator[Event | None]:
        """The events behind `after`, up to and with `done`; None whenever `tick_s` pass without one.

        Blocks between events. Also ends when the job's log has gone. Raises redis's errors if Redis is away when
        the log is read.
        """
        if not self._subscriber.confirmed.wait(CONFIRM_S):
            self._subscriber.confirmed.set()  # From now on a confirmation says that something may have been missed.
        seen = events.order(after)
        backlog: list[Event] | None = None
        checked = 0.0
        while True:
            if backlog is None:
                checked = time.monotonic()
                backlog = events.read(self._redis, self._job_id, after)
            for event in backlog:
                if events.order(event.id) > seen:
                    seen, after = events.order(event.id), event.id
                    yield event
                    if event.name == "done":
                        return
            try:
                event_or_gap = self._subscriber.inbox.get(timeout=tick_s)
                backlog = None if event_or_gap is None else [event_or_gap]
            except queue.Empty:
                yield None
                late = time.monotonic() - checked >= RECHECK_S
                if late and not self._redis.exists(keys.events(self._job_id)):
                    return
                backlog = None if late else []
