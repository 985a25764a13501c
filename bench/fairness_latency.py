"""What submit and pick take with many jobs waiting: as a caller sees it, and inside Redis."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from redis import Redis

from bench.fairness_redis import ENGINE, new_record
from bench.sides import BenchError
from bench.stats import percentile
from jobs import keys
from jobs.record import Job
from jobs.store import JobStore
from scheduler.fairness import Waiting

#: Of either script, inside Redis, in the 99th percentile. ms.
TARGET_MS = 1.0
#: The 99th percentile inside Redis at the greatest depth, as a multiple of that at the least, still counts as flat.
FLAT = 1.5

#: Commands that a script calls are logged too. Nearly all of them take less than this, and every script more. µs.
LOGGED_FROM_US = 10
#: Calls between two looks at the log. By so many jobs the depth varies.
RUN = 100


COLUMNS = ("submit, round trip", "in Redis", "pick, round trip", "in Redis")


@dataclass(frozen=True)
class Latency:
    """Times of one script at one depth, in ms."""

    round_trips: Sequence[float]
    in_redis: Sequence[float]


def measure(redis: Redis, store: JobStore, depths: Sequence[int], users: int, samples: int) -> bool:
    """Print a line for each depth and whether time grows with it; whether every target is met.

    Empties the database. One caller; the jobs are spread evenly over at most so many users.
    """
    print("Latency, ms: p50 / p99, of a round trip over a Unix socket and inside Redis")
    columns = "".join(f"{name:>20}" for name in COLUMNS)
    print(f"{'waiting':>9}{'users':>8}{columns}   in Redis p99 ≤ {TARGET_MS:g}")
    good, found = True, []
    for depth in depths:
        submit, pick = at_depth(redis, store, depth, min(users, depth), samples)
        found.append((submit, pick))
        met = max(percentile(latency.in_redis, 99) for latency in (submit, pick)) <= TARGET_MS
        good &= met
        cells = [submit.round_trips, submit.in_redis, pick.round_trips, pick.in_redis]
        print(f"{depth:>9}{min(users, depth):>8}" + "".join(f"{_pair(times):>20}" for times in cells)
              + f"   {'ok' if met else 'MISS'}", flush=True)  # fmt: skip
    for name, least, most in zip(("submit", "pick"), found[0], found[-1], strict=True):
        half, growth = growth_of(least, most, 50), growth_of(least, most, 99)
        good &= growth <= FLAT
        print(f"{name} in Redis, {depths[-1]} jobs against {depths[0]}: p50 ×{half:.2f}, p99 ×{growth:.2f}, "
              f"flat is ≤ ×{FLAT:g}  {'ok' if growth <= FLAT else 'MISS'}", flush=True)  # fmt: skip
    return good


def at_depth(redis: Redis, store: JobStore, depth: int, users: int, samples: int) -> tuple[Latency, Latency]:
    """Submit and pick, `samples` times each, measured first from outside and then, with the log on, inside."""
    redis.flushdb()
    for number in range(depth):
        store.create(_record(number % users))

    def submit() -> None:
        store.create(_record(random.randrange(users)))

    def pick() -> None:
        store.pick(ENGINE, woken=False)

    trips: tuple[list[float], list[float]] = ([], [])
    inside: tuple[list[float], list[float]] = ([], [])
    for _ in range(samples):  # One in, one out: the depth stays.
        for call, times in zip((submit, pick), trips, strict=True):
            begun = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - begun))
    for _ in range(samples // RUN):
        for call, times in zip((submit, pick), inside, strict=True):
            times += in_redis_ms(redis, call, RUN)
    if store.depth(ENGINE) != depth:
        raise BenchError(f"{store.depth(ENGINE)} jobs wait, not {depth}: not every submit and pick did its work")
    return Latency(trips[0], inside[0]), Latency(trips[1], inside[1])


def in_redis_ms(redis: Redis, call: Callable[[], object], times: int) -> list[float]:
    """How long Redis itself takes for each of so many calls, of one script each: what its slow log says, in steps of
    1 µs. LATENCY HISTOGRAM would know no more than powers of two. Raises `BenchError` when the log has not all."""
    redis.config_set("slowlog-max-len", 100 * times)
    redis.slowlog_reset()
    redis.config_set("slowlog-log-slower-than", LOGGED_FROM_US)
    try:
        for _ in range(times):
            call()
    finally:
        redis.config_set("slowlog-log-slower-than", -1)
    found = [entry["duration"] / 1000 for entry in redis.slowlog_get(-1) if _is_script(entry["command"])]
    if len(found) != times:
        raise BenchError(f"{times} scripts were run and {len(found)} logged by Redis: they take < {LOGGED_FROM_US} µs")
    return found


def growth_of(least: Latency, most: Latency, percent: float) -> float:
    """A percentile inside Redis at the greater depth, as a multiple of that at the lesser."""
    return percentile(most.in_redis, percent) / percentile(least.in_redis, percent)


def _is_script(command: str | bytes) -> bool:
    return (command if isinstance(command, bytes) else command.encode()).startswith(b"EVALSHA ")


def _pair(times: Sequence[float]) -> str:
    return f"{percentile(times, 50):.3f} / {percentile(times, 99):.3f}"


def _record(user: int) -> Job:
    name = keys.user_key(f"user{user}")
    return replace(new_record(Waiting("", name, 1.0, "interactive", random.randint(1, 100))), owner=name)
