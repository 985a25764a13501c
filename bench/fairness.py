"""`python -m bench.fairness`: proves and measures the fair order of `scheduler/design.md`, beside two simpler ones."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from bench import fairness_latency
from bench import fairness_simulation as simulation
from bench.fairness_redis import Both, LuaOrder, StoreOrder
from bench.fairness_simulation import ORDERS, BoundWatch, Device, Order, random_schedule
from bench.sides import BenchError
from cli.errors import Failure
from cli.redis_server import running
from cli.settings import Settings
from jobs import keys
from jobs.connection import connect
from jobs.store import JobStore

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
    """The exit code: 0 when every promise is kept and every target met, 1 when not or when there is no Redis; 130 for
    Ctrl-C. No process is left in any case."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the full counts, some minutes")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return 0 if prove(FULL if asked.full else SHORT) else 1
    except (BenchError, Failure) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: stopped", file=sys.stderr)
        return 130


def prove(counts: Counts) -> bool:
    """Print everything; whether all is as it should be."""
    good = _figures(counts)
    good &= _bound(counts)
    # The embedded server, as `serve` runs it. The folder's path is short, as it holds a socket.
    with (
        tempfile.TemporaryDirectory(prefix="npb-") as folder,
        running(Settings(data_dir=Path(folder), redis_url="")) as url,
        connect(url) as redis,
    ):
        store = JobStore(redis)
        store.load_scripts()
        good &= _equal(redis, lambda: LuaOrder(redis), counts.lua_schedules, "fair.lua")
        good &= _equal(redis, lambda: StoreOrder(store), counts.store_schedules, "whole jobs")
        good &= fairness_latency.measure(redis, store, counts.depths, counts.users, counts.samples)
    return good


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


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _verdict(met: bool) -> str:
    return "ok" if met else "MISS"


if __name__ == "__main__":
    sys.exit(main())
