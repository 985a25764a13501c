"""Rows, their comparison and their targets."""

import pytest

from bench.figures import Row, Target


def row(in_process: float | None, server: float | None, **more) -> Row:
    return Row("x", "ms", in_process, server, **more)


def test_a_difference_is_what_the_server_adds() -> None:
    assert row(20.0, 25.0, comparison="difference").compared == 5.0


def test_a_ratio_is_the_server_s_part_of_what_there_is_in_process() -> None:
    assert row(100.0, 95.0).compared == 0.95


def test_with_rounds_the_median_of_the_rounds_comparisons_counts() -> None:
    # Given a machine that was half as fast in the second round
    slowed = row(80.0, 76.0, rounds_in_process=[100.0, 50.0, 80.0], rounds_server=[96.0, 47.5, 76.0])
    # Then each round's own ratio stands, whatever the speed then was
    assert slowed.compared == pytest.approx(0.95)


@pytest.mark.parametrize("sides", [(None, 1.0), (1.0, None), (0.0, 1.0)])
def test_what_cannot_be_compared_misses_its_target(sides) -> None:
    incomparable = row(*sides, target=Target(at_least=0.0))
    assert incomparable.compared is None
    assert incomparable.met is False


@pytest.mark.parametrize(
    ("target", "server", "met"),
    [
        (Target(at_most=8.0), 8.0, True),
        (Target(at_most=8.0), 8.001, False),
        (Target(at_least=4.0), 4.0, True),
        (Target(at_least=4.0), 3.999, False),
    ],
)
def test_a_bound_is_part_of_what_is_allowed(target: Target, server: float, met: bool) -> None:
    assert row(None, server, comparison="value", target=target).met is met


def test_a_row_without_a_target_is_neither_met_nor_missed() -> None:
    assert row(1.0, 100.0).met is None


def test_rounds_of_different_number_are_an_error() -> None:
    with pytest.raises(ValueError):
        _ = row(1.0, 1.0, rounds_in_process=[1.0, 1.0], rounds_server=[1.0]).compared
