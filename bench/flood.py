"""`python -m bench.flood`: what a light user waits for while another floods the server, in fair order and in FIFO.

A real server with the real model, and real HTTP clients. Whose request one is, the request's `user` says. FIFO is the
same server and load with both as one user, whose own jobs run first in, first out.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from bench import machine, workload
from bench.flood_client import Flood
from bench.flood_figures import Result, Sample, Series, report
from bench.http_client import run_all
from bench.progress import Progress
from bench.server import CHAT_PATH, DataFolder, Server, own_settings
from bench.sides import BenchError
from cli.errors import Failure
from cli.pulling import pull_missing
from cli.settings import Settings
from cli.settings_load import load
from cli.settings_parse import SettingsError

LIGHT_TOKENS = 16
#: Between an answer and the light user's next request. Seconds.
PAUSE_S = 0.3
#: Lengths of the flood's answers, evenly spread. Tokens.
FLOOD_TOKENS = (32, 128)
#: What others may use of all cores before the figures stop meaning much.
QUIET_SHARE = 0.05


@dataclass(frozen=True)
class Plan:
    #: Chats that the flood keeps outstanding. In FIFO order a request waits for nearly all of them to be served, so
    #: this decides how many such requests can be measured in the time.
    depth: int = 32
    #: Each round measures the light user alone, then beside the flood in both orders.
    rounds: int = 2
    alone_requests: int = 13
    #: Of one flood, and of the requests that the light user sends meanwhile. Seconds.
    block_s: float = 45.0


FULL = Plan()
QUICK = Plan(depth=16, rounds=1, alone_requests=6, block_s=8.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 when all requests were answered, 1 when one was not or nothing could be measured; 130 for
    Ctrl-C. No process is left in any case."""
    asked = _parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    others = machine.OthersMeter()
    try:
        # Embeddings are not measured: their engine would only take memory.
        settings = replace(load({}, os.environ).settings, embed_model="")
        pull_missing(settings, [settings.llm_model])
        with DataFolder(settings.data_dir) as folder:
            result = measure(own_settings(settings, folder), QUICK if asked.quick else FULL)
    except (BenchError, Failure, SettingsError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: stopped", file=sys.stderr)
        return 130
    print(report(result))
    print(f"{settings.llm_model}, {os.cpu_count()} × {machine.cpu_name()}, {', '.join(machine.devices())}")
    if others.share() > QUIET_SHARE:
        print(f"Others used {others.share():.0%} of the machine meanwhile: repeat it in quiet.")
    if asked.plot:
        # Only here: the figures need no matplotlib.
        from bench.flood_plot import draw

        draw(result, asked.plot)
        print(f"Drawn to {asked.plot}")
    return 1 if result.failed else 0


def measure(settings: Settings, plan: Plan) -> Result:
    """Start the server, flood it in turns, stop it. Raises `BenchError`."""
    result = Result(plan.depth, Series(), Series(), Series())
    progress = Progress()
    progress.subject("starting the server")
    try:
        with Server(settings) as server, closing(LightUser(server)) as light:
            light.ask("warm-up", 0.0, Series())
            for number in range(plan.rounds):
                progress.subject("the light user alone")
                for _ in range(plan.alone_requests):
                    light.ask("light", time.perf_counter(), result.alone)
                    time.sleep(PAUSE_S)
                # Each order goes first every other round.
                for order in ("fair", "FIFO") if number % 2 == 0 else ("FIFO", "fair"):
                    progress.subject(f"beside the flood, {order}")
                    series = result.fair if order == "fair" else result.fifo
                    # New names, so that a block begins with nobody served.
                    flooder = f"flood {number} {order}"
                    light_name = f"light {number}" if order == "fair" else flooder
                    with Flood(server, plan.depth, flood_bodies(server, flooder)) as flood:
                        _beside(flood, light, light_name, plan.block_s, series)
                    server.wait_until_idle()
    finally:
        progress.end()
    for name, series in (("alone", result.alone), ("fair", result.fair), ("FIFO", result.fifo)):
        if not series.samples:
            raise BenchError(f"no request of the light user was answered, {name}: {series.failures[:1]}")
    return result


def _beside(flood: Flood, light: LightUser, name: str, block_s: float, series: Series) -> None:
    """The light user asks, waits for the end of the answer, pauses and asks again, until `block_s` are over."""
    while time.perf_counter() - flood.begun_s < block_s:
        light.ask(name, flood.begun_s, series)
        time.sleep(PAUSE_S)
    series.flood_s += time.perf_counter() - flood.begun_s
    series.flood_served += flood.served
    series.flood_failures += flood.failures


def flood_bodies(server: Server, user: str) -> Iterator[bytes]:
    """The flood's chats, without end and the same in every block, whoever the user."""
    chance = random.Random(32)
    for number in count(1000):
        prompt = f"Write what you know about the number {number}, and why it matters."
        yield server.chat(prompt, chance.randint(*FLOOD_TOKENS), user)


class LightUser:
    """Sends one short chat after the other on a connection that it keeps."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._prompts = workload.prompts()
        self._connection = server.connect()

    def ask(self, name: str, begun_s: float, series: Series) -> None:
        """One request as the user `name`, to its end; what it took, or why it failed, goes to `series`."""
        body = self._server.chat(next(self._prompts), LIGHT_TOKENS, name)
        at_s = time.perf_counter() - begun_s
        try:
            [answer] = run_all([self._connection], CHAT_PATH, [body])
            answer.check_stream()
        except (BenchError, OSError) as error:
            series.failures.append(str(error))
            self._connection.close()
            self._connection = self._server.connect()
        else:
            series.samples.append(Sample(at_s, 1000 * answer.first_s))

    def close(self) -> None:
        self._connection.close()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.flood", description="Measure what a light user waits for while another floods the server."
    )
    parser.add_argument("--quick", action="store_true", help="less than a minute and half the flood, for a first look")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="draw it as a PNG")
    return parser.parse_args(arguments)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
