"""The few statistics that the figures need."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def median(samples: Sequence[float]) -> float:
    """The middle sample, or the mean of the middle two. ValueError without samples."""
    return float(statistics.median(samples))


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that at least `percent` of all do not exceed (nearest rank): one that was measured.

    With fewer than 100 samples the 99th is the largest. ValueError without samples.
    """
    if not samples:
        raise ValueError("no samples")
    rank = math.ceil(percent / 100 * len(samples))
    return sorted(samples)[max(0, rank - 1)]
