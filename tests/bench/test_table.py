"""The table that people read."""

from bench.figures import Row, Target
from bench.table import table, verdict

ROWS = [
    Row("first token", "ms", 20.04, 31.0, "difference", Target(at_most=8.0)),
    Row("first token, p99", "ms", 30.0, 29.0, "difference"),
    Row("tokens/s", "/s", 139.4, 135.2, "ratio", Target(at_least=0.95)),
    Row("8 at once ÷ one", "×", 5.5, 4.8, "value", Target(at_least=4.0)),
    Row("memory", "MB", None, 228.4, "value", Target(at_most=400.0)),
]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_each_row_shows_both_sides_the_comparison_the_target_and_the_verdict() -> None:
    lines = table(ROWS).splitlines()[2:]
    assert [cells(line) for line in lines] == [
        ["first token", "20.0 ms", "31.0 ms", "+11.0 ms", "≤ +8 ms", "MISS"],
        ["first token, p99", "30.0 ms", "29.0 ms", "−1.00 ms"],
        ["tokens/s", "139 /s", "135 /s", "×0.970", "≥ ×0.95", "ok"],
        ["8 at once ÷ one", "×5.50", "×4.80", "≥ ×4", "ok"],
        ["memory", "–", "228 MB", "≤ 400 MB", "ok"],
    ]


def test_the_columns_stand_below_each_other() -> None:
    header, _, *lines = table(ROWS).splitlines()
    end = header.index("server") + len("server")
    assert all(line[:end].endswith(("ms", "/s", "0", "MB")) for line in lines)


def test_the_verdict_counts_and_names_what_is_missed() -> None:
    assert verdict(ROWS) == "3 of 4 targets met; missed: first token"
    assert verdict(ROWS[1:]) == "3 of 3 targets met"
