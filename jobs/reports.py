"""What workers say of themselves, every second: for `/health`, response headers and routing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from redis import Redis

from jobs import keys

#: A worker that has not reported for so long counts as gone. Seconds.
REPORT_TTL_S = 5

WorkerState = Literal["loading", "ready", "restarting", "failed", "stopping"]


@dataclass(frozen=True)
class Report:
    """One worker process with its engine."""

    name: str
    engine: str
    model: str
    state: WorkerState
    #: What it is doing, in words, while it is not ready.
    progress: str = ""
    running: int = 0
    device: str = ""
    context_tokens: int = 0
    max_prompt_tokens: int = 0
    slots: int = 0
    load_s: float = 0.0
    fallbacks: tuple[str, ...] = ()


#: What a report has from the engine's facts, once it has loaded.
LOADED = ("device", "context_tokens", "max_prompt_tokens", "slots", "load_s", "fallbacks")


def write(redis: Redis, report: Report) -> None:
    """Publish a report; it counts for `REPORT_TTL_S`."""
    key = keys.worker(report.name)
    with redis.pipeline(transaction=False) as pipe:
        pipe.set(key, json.dumps(asdict(report)), ex=REPORT_TTL_S)
        pipe.sadd(keys.workers(), key)
        pipe.execute()


def withdraw(redis: Redis, name: str) -> None:
    """A worker that ends in good order takes its report with it."""
    redis.delete(keys.worker(name))
    redis.srem(keys.workers(), keys.worker(name))


def read_all(redis: Redis) -> list[Report]:
    """The workers that live, by name. Forgets those that do not."""
    names = sorted(redis.smembers(keys.workers()))
    texts = redis.mget(names) if names else []
    gone = [name for name, text in zip(names, texts, strict=True) if text is None]
    if gone:
        redis.srem(keys.workers(), *gone)
    reports = [json.loads(text) for text in texts if text is not None]
    return [Report(**{**body, "fallbacks": tuple(body["fallbacks"])}) for body in reports]
