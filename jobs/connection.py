"""The one place that makes Redis clients."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.client import Pipeline
from redis.exceptions import ConnectionError, OutOfMemoryError, RedisError, TimeoutError
from redis.retry import Retry

#: A Redis that is down must be noticed at once, not after redis-py's ten silent retries. Seconds.
CONNECT_TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 5.0
#: Where somebody waits for an answer over HTTP: a worker can be patient, a caller can ask again. A Redis that is well
#: answers in ms, and stands still for a second at most, when its disk is slow. Seconds.
ANSWER_TIMEOUT_S = 2.0
#: For how long after a command without an answer others are refused at once, before one tries again. Seconds.
SILENCE_S = 1.0


class _Bookkeeper(Redis):  # type: ignore[misc]
    """For RQ's own books, which are left unwritten while Redis is full: what counts are the jobs' scripts."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)
        except OutOfMemoryError:
            return None

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        return _BookkeepingPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _BookkeepingPipeline(Pipeline):  # type: ignore[misc]
    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = len(self)
        try:
            results: list[Any] = super().execute(raise_on_error)
            return results
        except OutOfMemoryError:
            return [None] * commands


class _Silence:
    """Whether the last command met its time limit. Then one at a time finds out whether Redis answers again, and the
    others fail at once: a Redis that stands still costs a request one wait, not one for each of its commands."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._silent = False
        self._refuse_until = 0.0

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Around a command. Raises `TimeoutError` in its place."""
        if self._silent:
            with self._lock:
                if time.monotonic() < self._refuse_until:
                    raise TimeoutError("no answer a moment ago")
                self._refuse_until = time.monotonic() + ANSWER_TIMEOUT_S
        try:
            yield
        except TimeoutError:
            self._silent, self._refuse_until = True, time.monotonic() + SILENCE_S
            raise
        except RedisError:
            self._silent = False
            raise
        self._silent = False


class _Impatient(Redis):  # type: ignore[misc]
    """For callers who are waiting: see `connect_impatient`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.silence = _Silence()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with self.silence.noticed():
            return super().execute_command(*args, **options)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        pipe = _ImpatientPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipe.silence = self.silence
        return pipe


class _ImpatientPipeline(Pipeline):  # type: ignore[misc]
    silence: _Silence

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with self.silence.noticed():
            results: list[Any] = super().execute(raise_on_error)
            return results


def connect_impatient(url: str) -> Redis:
    """A client for the API: a command takes `ANSWER_TIMEOUT_S` at most, and fails at once while Redis is known not to
    answer. One whose connection broke is sent once more, one that met the limit is not. Thread-safe."""
    return _connect(_Impatient, url, ANSWER_TIMEOUT_S, retry=_retry(1, ConnectionError))


def connect_rq(url: str) -> Redis:
    """RQ's client for one slot. It wants bytes; nothing is sent twice, as a pop would be done twice."""
    return _connect(_Bookkeeper, url, COMMAND_TIMEOUT_S, decode=False, retry=_retry(0))


def connect(url: str, *, blocking: bool = False, decode: bool = True, resend: bool = True) -> Redis:
    """A client with its own pool; connects at its first command.

    `blocking` is for one that waits in BLMOVE or for pub/sub messages: no time limit on its reads. Thread-safe,
    pipelines and pub/sub objects aside.

    With `resend` a command whose connection broke is sent once more, though it may have been carried out. Workers,
    whose pick and claim are not to be done twice, meet the error instead.
    """
    timeout_s = None if blocking else COMMAND_TIMEOUT_S
    return _connect(Redis, url, timeout_s, decode=decode, retry=_retry(1 if resend else 0))


def _retry(times: int, *errors: type[Exception]) -> Retry:
    backoff = ExponentialBackoff(cap=0.1, base=0.01)
    return Retry(backoff, times, errors) if errors else Retry(backoff, times)


def _connect(client: type[Redis], url: str, timeout_s: float | None, *, decode: bool = True, retry: Retry) -> Redis:
    return client.from_url(
        url,
        decode_responses=decode,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=timeout_s,
        retry=retry,
        health_check_interval=0,
    )
