"""The one place that makes Redis clients."""

from __future__ import annotations

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

#: A Redis that is down must be noticed at once, not after redis-py's ten silent retries. Seconds.
CONNECT_TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 5.0


def connect(url: str, *, blocking: bool = False, decode: bool = True, resend: bool = True) -> Redis:
    """A client with its own pool; connects at its first command.

    `blocking` is for one that waits in BLMOVE or for pub/sub messages: no time limit on its reads. Thread-safe,
    pipelines and pub/sub objects aside. RQ wants `decode=False`.

    With `resend` a command whose connection broke is sent once more, though it may have been carried out. Workers,
    whose pick and claim are not to be done twice, meet the error instead.
    """
    return Redis.from_url(
        url,
        decode_responses=decode,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=None if blocking else COMMAND_TIMEOUT_S,
        retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 1 if resend else 0),
        health_check_interval=0,
    )
