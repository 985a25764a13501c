"""Statistics of the bench."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import median, percentile

SAMPLES = st.lists(st.floats(0, 1e6), min_size=1, max_size=300)


def test_a_percentile_is_the_nearest_rank() -> None:
    assert percentile([float(n) for n in range(1, 201)], 99) == 198
    assert percentile([3.0, 1.0, 2.0], 50) == 2
    assert percentile([3.0, 1.0, 2.0], 99) == 3


@given(SAMPLES, st.floats(0, 100))
def test_a_percentile_was_measured_and_holds_for_its_part_of_the_samples(
    samples: list[float], percent: float
) -> None:
    found = percentile(samples, percent)
    assert found in samples
    assert sum(sample <= found for sample in samples) >= percent / 100 * len(samples) - 1e-9


@given(SAMPLES)
def test_a_median_lies_between_the_halves(samples: list[float]) -> None:
    middle, half = median(samples), len(samples) / 2
    assert sum(sample < middle for sample in samples) <= half
    assert sum(sample > middle for sample in samples) <= half


@pytest.mark.parametrize("statistic", [median, lambda samples: percentile(samples, 99)])
def test_no_samples_are_an_error(statistic) -> None:
    with pytest.raises(ValueError):
        statistic([])
