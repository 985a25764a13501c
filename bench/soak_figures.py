"""What a soak found, and whether that is good: growth of memory and keys, errors, the verdict. No input or output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

#: Memory that a process may gain from behind the warm-up to the end, and keys by their trend. Parts of one.
MOST_MEMORY_GROWTH = 0.05
MOST_KEYS_GROWTH = 0.10
#: The beginning that is not judged: caches fill.
WARM_UP_PART = 0.1
#: Beginning and end that are compared are so much of what is judged.
EDGE_PART = 0.2


@dataclass(frozen=True)
class Sample:
    """The server at one moment. Seconds since the start."""

    at_s: float
    #: Resident memory by process, MB.
    memory_mb: Mapping[str, float]
    keys: int


@dataclass(frozen=True)
class Counts:
    """What the clients did up to some moment."""

    requests: int = 0
    errors: int = 0
    tokens: int = 0

    def since(self, before: Counts) -> Counts:
        """What came after."""
        return Counts(self.requests - before.requests, self.errors - before.errors, self.tokens - before.tokens)


@dataclass(frozen=True)
class Growth:
    """A figure at the beginning and at the end of what is judged."""

    first: float
    last: float

    @property
    def part(self) -> float:
        """What was gained, as a part of the beginning."""
        return (self.last - self.first) / self.first if self.first else 0.0


@dataclass
class Soak:
    """Everything that was measured."""

    #: How long records can be read after their end: only behind that can the number of keys be steady. Seconds.
    ttl_s: float
    samples: list[Sample] = field(default_factory=list)
    counts: Counts = Counts()
    #: Answers by what was asked.
    answers: dict[str, int] = field(default_factory=dict)
    #: What was wrong, the first few in words.
    faults: list[str] = field(default_factory=list)
    #: Processes that are not those of the start.
    restarts: int = 0
    #: Keys of jobs that were there after their time; None when nobody waited to look.
    left_keys: int | None = None
    #: How long the clients asked. Seconds.
    took_s: float = 0.0

    def memory(self) -> dict[str, Growth]:
        """Of each process that was there throughout, in MB."""
        judged = behind(self.samples, WARM_UP_PART * self.took_s)
        names = [name for name in judged[0].memory_mb if all(name in s.memory_mb for s in judged)] if judged else []
        return {name: growth([sample.memory_mb[name] for sample in judged]) for name in names}

    def keys(self) -> Growth | None:
        """Of the keys by their trend, from when the first records have expired; None in so short a soak."""
        judged = behind(self.samples, max(WARM_UP_PART * self.took_s, 1.5 * self.ttl_s))
        if len(judged) < 5:
            return None
        return trend([(sample.at_s, float(sample.keys)) for sample in judged])

    def complaints(self) -> list[str]:
        """Why this is not good; empty when it is."""
        found = []
        if self.counts.errors:
            found.append(f"{self.counts.errors} errors, such as: {self.faults[0] if self.faults else 'unknown'}")
        if self.restarts:
            found.append(f"{self.restarts} processes were started again")
        for name, grown in self.memory().items():
            if grown.part > MOST_MEMORY_GROWTH:
                found.append(f"{name} grew by {grown.part:.1%}")
        keys = self.keys()
        if keys is not None and keys.part > MOST_KEYS_GROWTH:
            found.append(f"keys grew by {keys.part:.1%}")
        if self.left_keys:
            found.append(f"{self.left_keys} keys of jobs outlived them")
        if not self.counts.requests:
            found.append("nothing was asked")
        return found


def behind(samples: Sequence[Sample], at_s: float) -> list[Sample]:
    """Those taken from then on."""
    return [sample for sample in samples if sample.at_s >= at_s]


def growth(values: Sequence[float]) -> Growth:
    """From the median of the first fifth to that of the last, so that no single moment decides."""
    edge = max(1, int(EDGE_PART * len(values)))
    return Growth(median(values[:edge]), median(values[-edge:]))


def trend(points: Sequence[tuple[float, float]]) -> Growth:
    """From the first to the last moment on the line through all points (least squares)."""
    mean_x, mean_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    return Growth(mean_y + slope * (points[0][0] - mean_x), mean_y + slope * (points[-1][0] - mean_x))


def minute_line(minute: int, counts: Counts, seconds: float, sample: Sample) -> str:
    """One minute in a line."""
    memory = ", ".join(f"{name} {size:.0f}" for name, size in sample.memory_mb.items())
    pace = f"{counts.tokens / seconds:5.0f} tokens/s" if seconds else ""
    return (
        f"{minute:3} min  {counts.requests:5} requests  {counts.errors:2} errors  {pace}  {sample.keys:5} keys  "
        f"MB: {memory}"
    )


def report(soak: Soak, machine: str) -> str:
    """The figures as Markdown."""
    pace = soak.counts.tokens / soak.took_s if soak.took_s else 0.0
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(soak.answers.items()))
    lines = [
        f"{soak.took_s / 60:.0f} minutes, {machine}: {soak.counts.requests} requests ({kinds}), "
        f"{soak.counts.errors} errors, {pace:.0f} tokens/s, {soak.restarts} processes started again.",
        "",
        "| | behind the warm-up | at the end | growth | bound |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, grown in soak.memory().items():
        bound = f"≤ {MOST_MEMORY_GROWTH:.0%}"
        lines.append(f"| {name} | {grown.first:.1f} MB | {grown.last:.1f} MB | {grown.part:+.1%} | {bound} |")
    if (keys := soak.keys()) is not None:
        bound = f"≤ {MOST_KEYS_GROWTH:.0%}"
        lines.append(f"| Redis keys, trend | {keys.first:.0f} | {keys.last:.0f} | {keys.part:+.1%} | {bound} |")
    if soak.left_keys is not None:
        lines.append(f"| keys of jobs after their time | | {soak.left_keys} | | 0 |")
    return "\n".join(lines)


def verdict(soak: Soak) -> str:
    """In a line."""
    complaints = soak.complaints()
    return f"NOT GOOD: {'; '.join(complaints)}" if complaints else "good: no errors, and nothing grows"
