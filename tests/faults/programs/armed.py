"""The `npu-proxy` command, but its API dies at the fault point that stands in a file: `python -m … FILE serve`."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import cli.serve
from cli.child import ChildSpec
from cli.main import main
from jobs import fault_points

_child, _reach = cli.serve.child, fault_points.reach


def child(*arguments: Any, **options: Any) -> ChildSpec:
    spec = _child(*arguments, **options)
    if spec.name != "api":
        return spec
    python, _, _, _, *rest = spec.command
    return dataclasses.replace(spec, command=(python, "-m", "tests.faults.programs.armed", sys.argv[1], *rest))


def reach(point: str) -> None:
    if armed := Path(sys.argv[1]).read_text():
        fault_points.arm(armed)
        _reach(point)


if __name__ == "__main__":
    cli.serve.child = child
    # Before gunicorn's workers import the modules that name it.
    fault_points.reach = reach
    main(sys.argv[2:], prog_name="npu-proxy")
