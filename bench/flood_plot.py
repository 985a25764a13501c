"""The picture of a flood: each request of the light user, in either order, over the time of the flood."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.flood_figures import Result, Series
from bench.stats import median

#: 1200 × 600 pixels.
SIZE_INCHES, DPI = (8.0, 4.0), 150
#: Of Okabe and Ito's palette, which people with any common colour blindness can tell apart.
FIFO, FAIR, ALONE = "#D55E00", "#0072B2", "#555555"
#: What two lines of text take on the scale of times.
LABEL_FACTOR = 1.8


def draw(result: Result, path: Path) -> None:
    """Write the PNG; folders are made. Every series must have a sample (ValueError)."""
    # Not pyplot: it keeps figures and asks for a screen.
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    alone_ms = median(result.alone.ttfts_ms)
    last_s = max(sample.at_s for series in (result.fair, result.fifo) for sample in series.samples)
    _scale(axes, result)
    axes.axhline(alone_ms, color=ALONE, linestyle="--", linewidth=1.2)
    _points(axes, result.fifo, FIFO, "s")
    _points(axes, result.fair, FAIR, "o")
    medians_ms = [alone_ms, median(result.fair.ttfts_ms), median(result.fifo.ttfts_ms)]
    names = (("no flood", ALONE), ("fair order", FAIR), ("first in, first out", FIFO))
    for (name, colour), value_ms, at_ms in zip(names, medians_ms, spread(medians_ms, LABEL_FACTOR), strict=True):
        axes.text(1.02 * last_s, at_ms, f"{name}:\nmedian {value_ms:,.0f} ms", color=colour, va="center")
    axes.set_xlim(0, last_s)
    axes.set_title(title(result), loc="left", fontsize=13, fontweight="bold", pad=24)
    under = f"One user keeps {result.depth} chats outstanding; each point is a short chat of another user."
    axes.text(0, 1.03, under, color=ALONE, transform=axes.transAxes)
    axes.set_xlabel("seconds since the flood began")
    axes.set_ylabel("time to first token, ms")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the version of matplotlib, so that an unchanged picture is an unchanged file.
    figure.savefig(path, format="png", metadata={"Software": None})


def title(result: Result) -> str:
    """The finding in a line."""
    return f"Beside a flood, a short chat starts {result.ratio:.0f} times sooner in fair order"


def spread(values: Sequence[float], factor: float) -> list[float]:
    """Where to write beside rising values on a logarithmic scale, so that neighbours are `factor` apart at least."""
    places: list[float] = []
    for value in values:
        places.append(max(value, places[-1] * factor) if places else value)
    return places


def _points(axes: Axes, series: Series, colour: str, marker: str) -> None:
    at_s = [sample.at_s for sample in series.samples]
    axes.plot(at_s, series.ttfts_ms, marker, color=colour, markersize=5, markeredgewidth=0, alpha=0.8, clip_on=False)


def _scale(axes: Axes, result: Result) -> None:
    every_ms = [ms for series in (result.alone, result.fair, result.fifo) for ms in series.ttfts_ms]
    axes.set_yscale("log")
    axes.set_ylim(min(every_ms) / 1.8, max(every_ms) * 1.8)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
