"""The fair order, as a pure reference: who is next, and what each token costs whom.

Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, algorithm 2), with weights
and two lanes. What runs is the same rule in Lua (`scheduler/scripts/fair.lua`); a property test holds the two equal.
`scheduler/design.md` has the bound and its proof.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Lane = Literal["interactive", "batch"]
LANES: tuple[Lane, ...] = ("interactive", "batch")

#: What a token costs: the paper's weights for input and output.
PROMPT_COST = 1
COMPLETION_COST = 2
#: The part of the service that the batch lane gets even while interactive jobs wait.
BATCH_SHARE = 0.05


@dataclass(frozen=True)
class Waiting:
    """A job as the order knows it. `prompt_tokens` are charged when it is taken; 0 if they have been before."""

    id: str
    user: str
    weight: float
    lane: Lane
    prompt_tokens: int


@dataclass
class FairOrder:
    """The waiting jobs of one engine kind."""

    batch_share: float = BATCH_SHARE
    #: What each user was served, or counts as served, in each lane: cost by weight. One counter for both lanes would
    #: let a user of the slow lane carry credit into the fast one.
    counters: dict[Lane, dict[str, float]] = field(default_factory=lambda: {lane: {} for lane in LANES})
    lines: dict[Lane, dict[str, deque[Waiting]]] = field(default_factory=lambda: {lane: {} for lane in LANES})
    #: The user of whom nothing waits in the lane since latest.
    last_left: dict[Lane, str] = field(default_factory=dict)
    #: Cost that the batch lane may run up before interactive jobs that wait.
    batch_due: float = 0.0

    def join(self, job: Waiting, front: bool = False) -> None:
        """A job begins to wait, at the end or the front of its user's line.

        A user of whom nothing waited in its lane is lifted to the least counter of those of whom something does, so
        that idleness banks no credit; if there are none, to the counter of the user who left latest.
        """
        counters = self.counters[job.lane]
        if job.user not in self.lines[job.lane]:
            counters[job.user] = max(counters.get(job.user, 0.0), self._level(job.lane))
        line = self.lines[job.lane].setdefault(job.user, deque())
        if front:
            line.appendleft(job)
        else:
            line.append(job)

    def leave(self, job: Waiting) -> None:
        """A waiting job is withdrawn (cancelled, expired)."""
        self.lines[job.lane][job.user].remove(job)
        self._tidy(job.lane, job.user)

    def take(self) -> Waiting | None:
        """The next job: the oldest of the user with the least counter, in the lane whose turn it is; its prompt is
        charged. None when nothing waits."""
        lane = self._lane()
        if lane is None:
            return None
        if not self.lines["interactive"]:
            self.batch_due = 0.0  # Batch runs freely: what it ran up is forgiven, else its debt would grow without end.
        user = min(self.lines[lane], key=lambda name: (self.counters[lane][name], name.encode()))
        job = self.lines[lane][user].popleft()
        self._tidy(lane, user)
        self.charge(job, PROMPT_COST * job.prompt_tokens)
        return job

    def charge(self, job: Waiting, cost: float) -> None:
        """A job was served tokens of that cost."""
        counters = self.counters[job.lane]
        counters[job.user] = counters.get(job.user, 0.0) + cost / job.weight
        if self.lines["interactive"] and (self.lines["batch"] or job.lane == "batch"):
            part = -1.0 if job.lane == "batch" else self.batch_share / (1 - self.batch_share)
            self.batch_due += cost * part

    def _lane(self) -> Lane | None:
        """Interactive first, but batch when its share is due."""
        if self.lines["interactive"] and not (self.lines["batch"] and self.batch_due > 0):
            return "interactive"
        return "batch" if self.lines["batch"] else None

    def _level(self, lane: Lane) -> float:
        counters = self.counters[lane]
        waiting = [counters[user] for user in self.lines[lane]]
        return min(waiting) if waiting else counters.get(self.last_left.get(lane, ""), 0.0)

    def _tidy(self, lane: Lane, user: str) -> None:
        if not self.lines[lane][user]:
            del self.lines[lane][user]
            self.last_left[lane] = user


def script() -> str:
    """The same rule in Lua, to be prepended to scripts that need it."""
    return (Path(__file__).parent / "scripts" / "fair.lua").read_text()
