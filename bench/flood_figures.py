"""What a flood did to a light user, as figures and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.stats import median, percentile


@dataclass(frozen=True)
class Sample:
    """One request of the light user."""

    #: When it was sent, since the flood began; 0 without one. Seconds.
    at_s: float
    ttft_ms: float


@dataclass
class Series:
    """Everything measured in one situation, all its blocks together."""

    samples: list[Sample] = field(default_factory=list)
    #: Requests of the light user, then of the flood, that were refused or broke: what the server said.
    failures: list[str] = field(default_factory=list)
    flood_failures: list[str] = field(default_factory=list)
    #: Chats of the flood that were answered whole, and the time it lasted. Seconds.
    flood_served: int = 0
    flood_s: float = 0.0

    @property
    def ttfts_ms(self) -> list[float]:
        return [sample.ttft_ms for sample in self.samples]


@dataclass(frozen=True)
class Result:
    """A run: the light user alone, and beside the flood in either order."""

    #: Chats that the flood kept outstanding.
    depth: int
    alone: Series
    fair: Series
    fifo: Series

    @property
    def failed(self) -> int:
        """Requests of either user that were not answered whole."""
        return sum(len(s.failures) + len(s.flood_failures) for s in (self.alone, self.fair, self.fifo))

    @property
    def ratio(self) -> float:
        """How many times as long a light user waits in FIFO order as in fair order, in the median."""
        return median(self.fifo.ttfts_ms) / median(self.fair.ttfts_ms)


@dataclass(frozen=True)
class Summary:
    """Times to first token in ms; percentiles by nearest rank."""

    count: int
    median_ms: float
    p95_ms: float
    worst_ms: float


def summary(samples_ms: Sequence[float]) -> Summary:
    """ValueError without samples."""
    return Summary(len(samples_ms), median(samples_ms), percentile(samples_ms, 95), max(samples_ms))


def report(result: Result) -> str:
    """The whole result for people."""
    rows = [
        ("", "requests", "median", "p95", "worst"),
        _row("alone", result.alone),
        _row("beside the flood, fair", result.fair),
        _row("beside the flood, FIFO", result.fifo),
    ]
    lines = [f"{row[0]:24}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in rows]
    served = [
        f"{name}: {series.flood_served} chats in {series.flood_s:.0f} s"
        for name, series in (("fair", result.fair), ("FIFO", result.fifo))
    ]
    fair, alone = median(result.fair.ttfts_ms), median(result.alone.ttfts_ms)
    return "\n".join(
        [
            f"Time to first token of a light user, ms, while another keeps {result.depth} chats outstanding",
            *lines,
            f"In the median FIFO is ×{result.ratio:.1f} of fair; fair is ×{fair / alone:.1f} of alone.",
            f"The flood was served, {', '.join(served)}.",
            failures(result),
            "FIFO is the same server and load with both as one user: a user's own jobs run first in, first out.",
        ]
    )


def failures(result: Result) -> str:
    """How many requests failed, and what was said to the first of them."""
    if not result.failed:
        return "Every request was answered whole."
    every = (result.alone, result.fair, result.fifo)
    light = [text for series in every for text in series.failures]
    flood = [text for series in every for text in series.flood_failures]
    first = (light + flood)[0]
    return f"FAILED: {len(light)} requests of the light user, {len(flood)} of the flood; the first: {first}"


def _row(name: str, series: Series) -> tuple[str, ...]:
    if not series.samples:
        return (name, "0", "–", "–", "–")
    found = summary(series.ttfts_ms)
    return (name, f"{found.count}", *(f"{ms:,.0f}" for ms in (found.median_ms, found.p95_ms, found.worst_ms)))
