"""Places where a test has a process die: between two scripts, at each of which a job must be safe.

Nothing but a test arms one, and no setting does. See tests/faults.
"""

from __future__ import annotations

import os
import signal

#: In a worker: picked, before the claim; claimed, before the engine has it; a step's tokens written; an engine's crash
#: counted; an end written; handed back; a dead worker's job, or an id that it picked, taken from it. In an API: before
#: and after the job is accepted; after a cancel.
POINTS = (
    "picked",
    "claimed",
    "published",
    "crash_counted",
    "ended",
    "handed_back",
    "reaped",
    "put_back",
    "prepared",
    "submitted",
    "cancelled",
)

_armed = ""
_passes_left = 0


def arm(point: str, passes: int = 0) -> None:
    """Have this process killed by SIGKILL at a point, after having passed it so many times. Raises ValueError."""
    global _armed, _passes_left
    if point not in POINTS:
        raise ValueError(f"{point} is no fault point; there are {', '.join(POINTS)}")
    _armed, _passes_left = point, passes


def reach(point: str) -> None:
    """Die here if it is armed; costs a comparison if not."""
    global _passes_left
    if point != _armed:
        return
    if _passes_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    _passes_left -= 1
