"""`python -m bench`: all measurements in one run, as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from bench import footprint, machine
from bench.embedding import Embedding
from bench.figures import Row
from bench.measurement import Bench, Measurement
from bench.plan import FULL, QUICK, Plan
from bench.progress import Progress
from bench.reference import Reference
from bench.server import DataFolder, Server, own_settings
from bench.sides import BenchError
from bench.table import table, verdict
from bench.throughput import Throughput
from bench.ttft import TimeToFirstToken
from cli.compose import engine_spec
from cli.errors import Failure
from cli.pulling import pull_missing
from cli.settings import Settings, models_of
from cli.settings_load import load
from cli.settings_parse import SettingsError
from engines.base import Kind

MEASUREMENTS: tuple[Measurement, ...] = (TimeToFirstToken(), Throughput(), Embedding())

#: What others may use of all cores before the figures stop meaning much.
QUIET_SHARE = 0.05

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 when all was measured; 1 when it could not be, or with --strict a target is missed;
    130 for Ctrl-C. No process is left in any case."""
    asked = _parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    facts = machine.facts()
    others = machine.OthersMeter()
    try:
        settings = load({}, os.environ).settings
        pull_missing(settings, models_of(settings).values())
        with DataFolder(settings.data_dir) as folder:
            rows = measure(own_settings(settings, folder), QUICK if asked.quick else FULL)
    except (BenchError, Failure, SettingsError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: stopped", file=sys.stderr)
        return 130
    facts["others_share"] = round(others.share(), 3)
    print(table(rows))
    print(f"\n{verdict(rows)}. {facts['cores']} × {facts['cpu']}, {', '.join(facts['devices'])}")
    if facts["others_share"] > QUIET_SHARE:
        print(f"Others used {facts['others_share']:.0%} of the machine meanwhile: repeat it in quiet.")
    path = asked.json or RESULTS / f"{facts['date'].replace(':', '').replace('+0000', 'Z')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(facts, settings, rows), indent=1) + "\n")
    print(f"Written to {path}")
    return 1 if asked.strict and any(row.met is False for row in rows) else 0


def measure(settings: Settings, plan: Plan) -> list[Row]:
    """Start the server, measure everything that its engines allow, stop it. Raises `BenchError`."""
    rows: list[Row] = []
    progress = Progress()
    progress.subject("starting the server")
    try:
        with Server(settings) as server:
            bench = Bench(server, plan, progress)
            progress.subject("CPU while idle")
            idle = footprint.idle_cpu(server, plan.idle_s)
            for kind, model in models_of(settings).items():
                progress.subject(f"loading {model} in process")
                with Reference(engine_spec(settings, cast(Kind, kind), model)) as reference:
                    for measurement in [m for m in MEASUREMENTS if m.kind == kind]:
                        progress.subject(measurement.subject)
                        measurement.warm_up(bench, reference)
                        rows += measurement.run(bench, reference)
            return [*rows, *footprint.memory(server), *idle]
    finally:
        progress.end()


def document(facts: dict[str, Any], settings: Settings, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything, as plain JSON data."""
    return {
        "machine": facts,
        "models": dict(models_of(settings)),
        "rows": [{**asdict(row), "compared": row.compared, "met": row.met} for row in rows],
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure npu-proxy against the same model in process."
    )
    parser.add_argument("--quick", action="store_true", help="less than a minute, for a first look")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write (default: bench/results/)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    return parser.parse_args(arguments)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
