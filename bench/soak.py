"""`python -m bench.soak`: an hour of everything at once. Does it fail, does memory grow, do keys stay?

A real server with the real models, and clients that stream, call, embed, hand in, cancel and leave.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from bench import machine
from bench.server import DataFolder, Server, own_settings
from bench.sides import BenchError
from bench.soak_client import Client, Tally
from bench.soak_figures import Counts, Sample, Soak, minute_line, report, verdict
from cli.errors import Failure
from cli.pulling import pull_missing
from cli.redis_server import redis_url
from cli.settings import Settings, models_of
from cli.settings_load import load
from cli.settings_parse import SettingsError
from jobs.connection import connect

CLIENTS = 20
MINUTES = 60.0
#: How long records are kept, so that they come and go many times in an hour: the least that settings allow. Seconds.
TTL_S = 60
SAMPLE_S = 5.0
MINUTE_S = 60.0
#: What clients get to finish when the time is over, and when somebody presses Ctrl-C. Seconds.
FINISH_S = 120.0
HURRY_S = 5.0
MB = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 when all is good, 1 when it is not or could not be measured, 130 for Ctrl-C, which ends it in
    good order with what was measured so far. No process is left in any case."""
    asked = _parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    stopped = False
    try:
        settings = load({}, os.environ).settings
        pull_missing(settings, models_of(settings).values())
        with DataFolder(settings.data_dir) as folder:
            mine = replace(own_settings(settings, folder), reply_ttl_s=TTL_S, result_ttl_s=TTL_S)
            soak, stopped = run(mine, asked.minutes * MINUTE_S, asked.clients)
    except (BenchError, Failure, SettingsError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: stopped", file=sys.stderr)
        return 130
    models = ", ".join(models_of(settings).values())
    text = report(soak, f"{asked.clients} clients, {models}, {os.cpu_count()} × {machine.cpu_name()}")
    print(f"\n{text}\n")
    for fault in soak.faults:
        print(f"  {fault}")
    print(verdict(soak))
    if asked.report:
        asked.report.write_text(text + "\n")
        print(f"Written to {asked.report}")
    return 130 if stopped else 1 if soak.complaints() else 0


def run(settings: Settings, for_s: float, clients: int) -> tuple[Soak, bool]:
    """Start the server and its clients, and watch; what was found, and whether Ctrl-C ended it. Raises `BenchError`,
    and KeyboardInterrupt while the server starts or ends."""
    soak, tally = Soak(TTL_S), Tally()
    with Server(settings) as server, connect(redis_url(settings)) as redis:
        url = f"http://{settings.host}:{settings.port}"
        asking = [Client(url, dict(models_of(settings)), number, tally) for number in range(clients)]
        before = set(processes(server).values())
        begun_s = time.monotonic()
        for client in asking:
            client.start()
        print(f"the clients ask for {for_s / MINUTE_S:g} min", flush=True)
        stopped = False
        try:
            _watch(server, redis.dbsize, tally, soak, begun_s, for_s)
        except KeyboardInterrupt:
            stopped = True
            print("\nstopping", file=sys.stderr)
        soak.took_s = time.monotonic() - begun_s
        for client in asking:
            client.stop(hurry=stopped)
        give_up_s = time.monotonic() + (HURRY_S if stopped else FINISH_S)
        for client in asking:
            if not client.join(max(0.0, give_up_s - time.monotonic())) and not stopped:
                tally.failed("end", f"a client still waits after {FINISH_S:g} s")
        soak.restarts = len(set(processes(server).values()) - before)
        soak.counts, soak.answers, soak.faults = tally.counts(), tally.answers, tally.faults
        if not stopped:
            server.wait_until_idle()
            print(f"waiting {TTL_S + SAMPLE_S:g} s for the last records to expire", flush=True)
            time.sleep(TTL_S + SAMPLE_S)
            soak.left_keys = sum(1 for _ in redis.scan_iter("npu:job:*", count=1000))
    return soak, stopped


def _watch(
    server: Server, count_keys: Callable[[], int], tally: Tally, soak: Soak, begun_s: float, for_s: float
) -> None:
    told, minute = Counts(), 0
    told_s = begun_s
    while (now_s := time.monotonic()) - begun_s < for_s:
        memory = {name: process.memory_info().rss / MB for name, process in processes(server).items()}
        soak.samples.append(Sample(now_s - begun_s, memory, count_keys()))
        if now_s - told_s >= MINUTE_S:
            counts, minute = tally.counts(), minute + 1
            print(minute_line(minute, counts.since(told), now_s - told_s, soak.samples[-1]), flush=True)
            told, told_s = counts, now_s
        time.sleep(min(SAMPLE_S, max(0.0, begun_s + for_s - now_s)))


def processes(server: Server) -> dict[str, psutil.Process]:
    """The server's processes by what they are. Those that end meanwhile are left out."""
    found: dict[str, psutil.Process] = {}
    for part, members in server.parts().items():
        for number, process in enumerate(members):
            if part == "api":
                name = "api arbiter" if number == 0 else "api worker" if number == 1 else f"api worker {number}"
            else:
                name = part if number == 0 else f"{part} {number + 1}"
            found[name] = process
    return found


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description="An hour of everything at once: errors, memory, keys."
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long clients ask (default: %(default)g)")
    parser.add_argument("--clients", type=int, default=CLIENTS, help="how many there are (default: %(default)s)")
    parser.add_argument("--report", type=Path, metavar="PATH", help="write the figures as Markdown")
    return parser.parse_args(arguments)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
