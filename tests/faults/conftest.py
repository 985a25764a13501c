"""How often, and what came of it: few times in `make test`, many in `make faults`, which prints the figures."""

from collections.abc import Callable, Sequence
from statistics import median

import pytest

Times = Callable[[int, int], int]
Figure = Callable[[str, str], None]

_FIGURES = pytest.StashKey[list[tuple[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the fault suite at full count: an hour or more")


@pytest.fixture(scope="session")
def times(request: pytest.FixtureRequest) -> Times:
    """How often to do it: `times(short, full)`."""
    full: bool = request.config.getoption("--full", False)
    return lambda short, many: many if full else short


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Put a line into the table at the end of the run: `figure("engine kill -9", "200 whole, median 0.3 s")`."""
    lines = request.config.stash.setdefault(_FIGURES, [])
    return lambda name, text: lines.append((name, text))


def spread(seconds: Sequence[float]) -> str:
    """Times in words: how many, median and worst."""
    return f"{len(seconds)} times, median {median(seconds):.2f} s, worst {max(seconds):.2f} s"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(_FIGURES, [])
    if lines and config.getoption("--full", False):
        terminalreporter.section("figures")
        width = max(len(name) for name, _ in lines)
        for name, text in lines:
            terminalreporter.write_line(f"{name:<{width}}  {text}")
