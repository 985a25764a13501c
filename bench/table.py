"""The rows as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from bench.figures import Comparison, Row, Target

HEADER = ("", "in process", "server", "compared", "target", "")
#: Columns of figures, set flush right.
_RIGHT = {1, 2, 3}


def table(rows: Sequence[Row]) -> str:
    """The rows in columns, with `ok` or `MISS` beside each target."""
    cells = [HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
    lines = ["  ".join(_pad(text, widths[i], i) for i, text in enumerate(line)).rstrip() for line in cells]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)


def verdict(rows: Sequence[Row]) -> str:
    """How many targets are met, in a line."""
    judged = [row for row in rows if row.met is not None]
    missed = [row.name for row in judged if not row.met]
    line = f"{len(judged) - len(missed)} of {len(judged)} targets met"
    return f"{line}; missed: {', '.join(missed)}" if missed else line


def figure(value: float | None, unit: str) -> str:
    """A figure with its unit: three digits or so, `–` for none."""
    if value is None:
        return "–"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    number = f"{value:.{digits}f}"
    return f"×{number}" if unit == "×" else f"{number} {unit}"


def comparison(value: float | None, kind: Comparison, unit: str) -> str:
    """A row's comparison, `+5.2 ms` or `×0.97`; nothing where the server's figure stands for itself."""
    if value is None or kind == "value":
        return ""
    if kind == "ratio":
        return f"×{value:.3f}"
    return f"{'+' if value >= 0 else '−'}{figure(abs(value), unit)}"


def bound(target: Target | None, kind: Comparison, unit: str) -> str:
    """A target in the form of the comparison it bounds."""
    if target is None:
        return ""
    sign, limit = ("≤", target.at_most) if target.at_most is not None else ("≥", target.at_least)
    assert limit is not None
    if kind == "value":
        return f"{sign} ×{limit:g}" if unit == "×" else f"{sign} {limit:g} {unit}"
    return f"{sign} ×{limit:g}" if kind == "ratio" else f"{sign} +{limit:g} {unit}"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        figure(row.in_process, row.unit),
        figure(row.server, row.unit),
        comparison(row.compared, row.comparison, row.unit),
        bound(row.target, row.comparison, row.unit),
        "" if row.met is None else "ok" if row.met else "MISS",
    )


def _pad(text: str, width: int, column: int) -> str:
    return text.rjust(width) if column in _RIGHT else text.ljust(width)
