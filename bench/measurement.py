"""The frame of a measurement: a new one is a class in a module of its own, and a line in `bench.__main__`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench import workload
from bench.figures import Row
from bench.plan import Plan
from bench.progress import Progress
from bench.reference import Reference
from bench.server import Server
from engines.base import Kind


@dataclass(frozen=True)
class Bench:
    """What a measurement works with. `prompts` and `small_texts` are shared: none is ever asked twice."""

    server: Server
    plan: Plan
    progress: Progress
    prompts: Iterator[str] = field(default_factory=workload.prompts)
    small_texts: Iterator[str] = field(default_factory=workload.small_texts)


class Measurement(ABC):
    """Measures one subject on both sides in turns: what disturbs the machine for a while disturbs both."""

    #: Shown while it runs.
    subject: str
    #: The engine it needs; its model is loaded in process while it runs.
    kind: Kind

    @abstractmethod
    def warm_up(self, bench: Bench, reference: Reference) -> None:
        """Make each side do once what is then measured."""

    @abstractmethod
    def run(self, bench: Bench, reference: Reference) -> list[Row]:
        """Measure; blocks for about the plan's time. Raises `BenchError`."""
