"""What workers say of themselves, every second: for `/health`, response headers and routing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from redis import Redis

from jobs import keys

#: A worker that has not reported for so long counts as gone. Seconds.
REPORT_TTL_S = 5
#: How much the newest run counts in the mean of how long jobs run.
NEWEST_WEIGHT = 0.2

#: Also into a Redis that is full: else nobody would know of the workers that empty it.
_WRITE = """#!lua flags=allow-oom
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('SADD', KEYS[2], KEYS[1])
"""

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
    #: How long its jobs ran lately (`mean_run_s`); 0 until one has ended.
    run_s: float = 0.0
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
    redis.eval(_WRITE, 2, key, keys.workers(), json.dumps(asdict(report)), REPORT_TTL_S)


def withdraw(redis: Redis, name: str) -> None:
    """A worker that ends in good order takes its report with it."""
    redis.delete(keys.worker(name))
    redis.srem(keys.workers(), keys.worker(name))


def read_all(redis: Redis) -> list[Report]:
    """The workers that live, by name. Forgets those that do not. Fields that a newer version may have added are left
    out."""
    names = sorted(redis.smembers(keys.workers()))
    texts = redis.mget(names) if names else []
    gone = [name for name, text in zip(names, texts, strict=True) if text is None]
    if gone:
        redis.srem(keys.workers(), *gone)
    bodies = [json.loads(text) for text in texts if text is not None]
    known = [{name: body[name] for name in Report.__dataclass_fields__ if name in body} for body in bodies]
    return [Report(**{**fields, "fallbacks": tuple(fields["fallbacks"])}) for fields in known]


def mean_run_s(mean_s: float, newest_s: float) -> float:
    """The exponentially weighted mean of how long jobs ran, with one more run; the first is taken as it is."""
    return NEWEST_WEIGHT * newest_s + (1 - NEWEST_WEIGHT) * mean_s if mean_s else newest_s


def estimated_wait_s(
    reports: Iterable[Report], engine: str, position: int, running: int | None = None
) -> float | None:
    """About how long a job waits that has this position in the queue, 1 being the next. Seconds.

    0 with a free slot for it and for each job before it. Otherwise so many jobs must end as its position says, less the
    free slots:

        (position - free) / rate,   rate = the sum of slots / run_s over the ready workers whose run_s is known

    None when no worker is ready, or none of them has ended a job yet. It assumes that jobs take as long as those of
    late did on the mean, that all slots are busy meanwhile, and that jobs end at an even pace; how far the running ones
    are is not looked at. The position is itself approximate. `running` says how many slots are taken, for a caller who
    has counted; the reports, which are up to two seconds old, tell it otherwise.
    """
    ready = [report for report in reports if report.engine == engine and report.state == "ready"]
    if not ready:
        return None
    busy = sum(report.running for report in ready) if running is None else running
    free = max(0, sum(report.slots for report in ready) - busy)
    if position <= free:
        return 0.0
    rate = sum(report.slots / report.run_s for report in ready if report.run_s)
    return (position - free) / rate if rate else None
