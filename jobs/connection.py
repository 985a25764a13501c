"""The one place that makes Redis clients."""

from __future__ import annotations

from typing import Any

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.client import Pipeline
from redis.exceptions import OutOfMemoryError
from redis.retry import Retry

#: A Redis that is down must be noticed at once, not after redis-py's ten silent retries. Seconds.
CONNECT_TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 5.0


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


def connect_rq(url: str) -> Redis:
    """RQ's client for one slot. It wants bytes; nothing is sent twice, as a pop would be done twice."""
    return _connect(_Bookkeeper, url, blocking=False, decode=False, resend=False)


def connect(url: str, *, blocking: bool = False, decode: bool = True, resend: bool = True) -> Redis:
    """A client with its own pool; connects at its first command.

    `blocking` is for one that waits in BLMOVE or for pub/sub messages: no time limit on its reads. Thread-safe,
    pipelines and pub/sub objects aside.

    With `resend` a command whose connection broke is sent once more, though it may have been carried out. Workers,
    whose pick and claim are not to be done twice, meet the error instead.
    """
    return _connect(Redis, url, blocking=blocking, decode=decode, resend=resend)


def _connect(client: type[Redis], url: str, *, blocking: bool, decode: bool, resend: bool) -> Redis:
    return client.from_url(
        url,
        decode_responses=decode,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=None if blocking else COMMAND_TIMEOUT_S,
        retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 1 if resend else 0),
        health_check_interval=0,
    )
