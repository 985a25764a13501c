"""`python -m bench.fairness`: proves and measures the fair order of `scheduler/design.md`, beside two simpler ones."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from redis import Redis

from bench import fairness_simulation as simulation
from bench.fairness_redis import ENGINE, Both, LuaOrder, StoreOrder, new_record
from bench.fairness_simulation import ORDERS, BoundWatch, Device, Order, random_schedule
from bench.stats import percentile
from jobs import keys
from jobs.connection import connect
from jobs.record import Job
from jobs.store import JobStore
from scheduler.fairness import Waiting
from tests.support.valkey import Valkey

USERS = [keys.user_key(name) for name in "abcde"]


@dataclass(frozen=True)
class Counts:
    lua_schedules: int
    store_schedules: int
    bound_schedules: int
    #: What is served in a scenario.
    cost: float
    #: Waiting jobs at which the latency is measured, and the users that have them at most.
    depths: tuple[int, ...]
    users: int
    samples: int


SHORT = Counts(200, 50, 1_000, 100_000, (1_000, 10_000), 10_000, 2_000)
FULL = Counts(10_000, 1_000, 10_000, 1_000_000, (1_000, 10_000, 100_000), 10_000, 10_000)

TARGET_MS = 1.0


@dataclass(frozen=True)
class Figure:
    name: str
    measure: Callable[[Order, float], float]
    text: Callable[[float], str]
    met: Callable[[float], bool]
    target: str


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


FIGURES = (
    Figure("weights 1:2:4, worst error", simulation.weight_error, _percent, lambda x: x <= 0.02, "≤ 2 %"),
    Figure("Jain index, mixed lengths", simulation.jain, "{:.4f}".format, lambda x: x >= 0.99, "≥ 0.99"),
    Figure("share after idle", simulation.share_after_idle, _percent, lambda x: abs(x - 0.5) <= 0.02, "50 ± 2 %"),
    Figure("  while batch waits too", lambda o, c: simulation.share_after_idle(o, c, batch_waits=True), _percent,
           lambda x: abs(x - 0.5) <= 0.02, "50 ± 2 %"),
    Figure("gain of short jobs", lambda o, c: simulation.split_gain(o, c, False), _percent, lambda x: x <= 0.02,
           "≤ 2 %"),
    Figure("gain of many short jobs", lambda o, c: simulation.split_gain(o, c, True), _percent, lambda x: x <= 0.02,
           "≤ 2 %"),
    Figure("batch beside interactive", simulation.batch_part, _percent, lambda x: abs(x - 0.05) <= 0.005, "about 5 %"),
    Figure("  after a light load", lambda o, c: simulation.batch_part(o, c, light_first=True), _percent,
           lambda x: abs(x - 0.05) <= 0.005, "about 5 %"),
    Figure("jobs before a light user's", lambda o, c: simulation.jobs_before_a_light_user(o), "{:.0f}".format,
           lambda x: x <= 9, "≤ 9"),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 when every promise is kept and every target met."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the full counts, some minutes")
    counts = FULL if parser.parse_args(arguments).full else SHORT
    good = _figures(counts)
    good &= _bound(counts)
    server = Valkey()
    try:
        with connect(server.url) as redis:
            store = JobStore(redis)
            store.load_scripts()
            good &= _equal(redis, lambda: LuaOrder(redis), counts.lua_schedules, "fair.lua")
            good &= _equal(redis, lambda: StoreOrder(store), counts.store_schedules, "whole jobs")
            good &= _latency(redis, store, counts)
    finally:
        server.stop()
    return 0 if good else 1


def _figures(counts: Counts) -> bool:
    print(f"{'':28}" + "".join(f"{name:>14}" for name in ORDERS) + "  target")
    good = True
    for figure in FIGURES:
        values = [figure.measure(make(), counts.cost) for make in ORDERS.values()]
        good &= figure.met(values[0])
        cells = "".join(f"{figure.text(value):>14}" for value in values)
        print(f"{figure.name:28}{cells}  {figure.target:10}{_verdict(figure.met(values[0]))}", flush=True)
    return good


def _bound(counts: Counts) -> bool:
    worst = {
        name: max(
            simulation.bound_used(random.Random(seed), make(), 20 if seed % 4 else 400)
            for seed in range(counts.bound_schedules if name == "fair" else counts.bound_schedules // 10)
        )
        for name, make in ORDERS.items()
    }
    cells = "".join(f"{value:>14.2f}" for value in worst.values())
    print(f"{'of the bound 2·k·c_max':28}{cells}  {'≤ 1':10}{_verdict(worst['fair'] <= 1)}")
    print(f"  worst of {counts.bound_schedules} random schedules; no slot idle while a job waited in any", flush=True)
    return worst["fair"] <= 1


def _equal(redis: Redis, make: Callable[[], Order], schedules: int, name: str) -> bool:
    compared, worst, begun = 0, 0.0, time.monotonic()
    for seed in range(schedules):
        redis.flushdb()
        rnd = random.Random(seed)
        both = Both(redis, make(), USERS)
        device = Device(both, slots=rnd.choice([1, 2, 4]))
        watch = BoundWatch(device, USERS)
        random_schedule(rnd, device, rnd.randint(5, 20), USERS)
        compared, worst = compared + both.compared, max(worst, watch.of_bound)
    print(f"{name} = reference in {schedules} random schedules, {compared} comparisons of every counter; "
          f"{worst:.2f} of the bound ({time.monotonic() - begun:.0f} s)", flush=True)  # fmt: skip
    return worst <= 1


def _latency(redis: Redis, store: JobStore, counts: Counts) -> bool:
    """Round trips over a Unix socket, as a caller sees them, at several depths of the queue."""
    good = True
    print(f"{'waiting jobs':>14}{'users':>8}{'submit p50':>14}{'p99':>8}{'pick p50':>14}{'p99':>8}   ms")
    for depth in counts.depths:
        redis.flushdb()
        users = min(counts.users, depth)
        for number in range(depth):
            store.create(_record(number % users))
        submits, picks = [], []
        for _ in range(counts.samples):  # One in, one out: the depth stays.
            record = _record(random.randrange(users))
            begun = time.perf_counter()
            store.create(record)
            between = time.perf_counter()
            picked = store.pick(ENGINE, woken=False)
            picks.append(1000 * (time.perf_counter() - between))
            submits.append(1000 * (between - begun))
            assert picked is not None
        tails = [percentile(submits, 99), percentile(picks, 99)]
        met = max(tails) <= TARGET_MS
        good &= met
        print(f"{depth:>14}{users:>8}{percentile(submits, 50):>14.3f}{tails[0]:>8.3f}{percentile(picks, 50):>14.3f}"
              f"{tails[1]:>8.3f}   p99 ≤ {TARGET_MS:g}  {_verdict(met)}", flush=True)  # fmt: skip
    return good


def _record(user: int) -> Job:
    name = keys.user_key(f"user{user}")
    return replace(new_record(Waiting("", name, 1.0, "interactive", random.randint(1, 100))), owner=name)


def _verdict(met: bool) -> str:
    return "ok" if met else "MISS"


if __name__ == "__main__":
    sys.exit(main())
