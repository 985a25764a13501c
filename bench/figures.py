"""What a measurement yields: rows of two figures side by side, each perhaps with a target to meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from bench.stats import median

#: How the server's figure is set against the one in process: `difference` server − in process, `ratio`
#: server ÷ in process, `value` the server's figure alone.
Comparison = Literal["difference", "ratio", "value"]


@dataclass(frozen=True)
class Target:
    """A bound on a row's comparison; at least one side of it is set, and it is part of what is allowed."""

    at_most: float | None = None
    at_least: float | None = None

    def met(self, compared: float) -> bool:
        above = self.at_least is None or compared >= self.at_least
        return above and (self.at_most is None or compared <= self.at_most)


@dataclass(frozen=True)
class Row:
    """One line of the table. None stands for a side that has no such figure."""

    name: str
    unit: str
    in_process: float | None
    server: float | None
    comparison: Comparison = "ratio"
    target: Target | None = None
    #: Each round's figure on either side, in the row's unit; none where a figure is of all rounds together.
    rounds_in_process: Sequence[float] = field(default=(), repr=False)
    rounds_server: Sequence[float] = field(default=(), repr=False)

    @property
    def compared(self) -> float | None:
        """The comparison's figure, what the target is about; None when a side is missing or has no size.

        With rounds it is the median of the comparisons made within each: the two sides of a round ran one
        after the other, so what slows the machine for some seconds falls out. It may then differ a little
        from the comparison of the two figures shown.
        """
        if self.comparison == "value":
            return self.server
        if self.in_process is None or self.server is None:
            return None
        pairs = list(zip(self.rounds_in_process, self.rounds_server, strict=True))
        pairs = pairs or [(self.in_process, self.server)]
        if self.comparison == "difference":
            return median([server - in_process for in_process, server in pairs])
        if not all(in_process for in_process, _ in pairs):
            return None
        return median([server / in_process for in_process, server in pairs])

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target. A figure that is missing misses it."""
        if self.target is None:
            return None
        return self.compared is not None and self.target.met(self.compared)
