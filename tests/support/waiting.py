"""Waiting for an event, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

LIMIT_S = 15.0


def until(condition: Callable[[], Value], timeout_s: float = LIMIT_S, what: str = "") -> Value:
    """The first true answer of `condition`; fails when there is none in time."""
    give_up_at = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < give_up_at, f"waited {timeout_s:g} s in vain for: {what or condition}"
        time.sleep(0.005)
    return answer
