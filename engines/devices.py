"""Which devices to try for a model, in which order, and why one is passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CHAIN = ("NPU", "GPU", "CPU")


@dataclass(frozen=True)
class Candidate:
    """A device of the chain; `skip` says why it is not even tried, or is empty."""

    device: str
    skip: str = ""


def family(device: str) -> str:
    """`GPU.1` → `GPU`."""
    return device.split(".", 1)[0].upper()


def candidates(
    wanted: str, available: Sequence[str], hints: Sequence[str], properties: Mapping[str, Any]
) -> list[Candidate]:
    """The devices from `wanted` down the chain NPU → GPU → CPU, each with the reason to skip it, if there is one.

    `available` is what OpenVINO lists (`GPU.0`, `GPU.1` for several); `hints` the families that the model's
    format runs on, empty for any. NPUW_DEVICES among the properties emulates an NPU on another device, as
    GenAI's own tests do, and so makes it available.
    """
    start = CHAIN.index(family(wanted)) if family(wanted) in CHAIN else 0
    chain = [wanted.upper(), *CHAIN[start + 1 :]]
    emulated = {"NPU"} if "NPUW_DEVICES" in properties else set()
    present = {family(d) for d in available} | {d.upper() for d in available} | emulated
    found = []
    for device in chain:
        if device not in present:
            skip = f"no {device} on this machine"
        elif hints and family(device) not in hints:
            skip = f"the model's format does not run on {family(device)} (only on {', '.join(hints)})"
        else:
            skip = ""
        found.append(Candidate(device, skip))
    return found


def failure_category(error: str) -> str:
    """The kind of a load failure, from OpenVINO's text: out of memory, driver, or model not supported."""
    text = error.lower()
    if any(word in text for word in ("out of memory", "bad_alloc", "failed to allocate", "out_of_host_memory")):
        return "out of memory"
    if any(word in text for word in ("driver", "level zero", "ze_result", "compiler loading", "opencl")):
        return "driver"
    return "model not supported"
