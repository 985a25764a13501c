"""The fair order, as a pure reference: who is next, and what each token costs whom.

Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, algorithm 2), with weights
two lanes, and users who may run only so many jobs at a time. What runs is the same rule in Lua
(`scheduler/scripts/fair.lua`); a property test holds the two equal.
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
    #: How many jobs its user may have running at a time; 0 is no limit.
    max_running: int = 0


@dataclass
class FairOrder:
    """The waiting jobs of one engine kind."""

    batch_share: float = BATCH_SHARE
    #: What each user was served, or counts as served, in each lane: cost by weight. One counter for both lanes would
    #: let a user of the slow lane carry credit into the fast one.
    counters: dict[Lane, dict[str, float]] = field(default_factory=lambda: {lane: {} for lane in LANES})
    lines: dict[Lane, dict[str, deque[Waiting]]] = field(default_factory=lambda: {lane: {} for lane in LANES})
    #: The users whose turn may come: something of theirs waits, and they may run it.
    in_turn: dict[Lane, set[str]] = field(default_factory=lambda: {lane: set() for lane in LANES})
    #: Ids of each user's running jobs, and how many there may be, for users who have a limit.
    running: dict[str, set[str]] = field(default_factory=dict)
    max_running: dict[str, int] = field(default_factory=dict)
    #: The user whose turn has been over for the shortest time.
    last_left: dict[Lane, str] = field(default_factory=dict)
    #: Cost that the batch lane may run up before interactive jobs that wait.
    batch_due: float = 0.0

    def join(self, job: Waiting, front: bool = False) -> None:
        """A job begins to wait: a new one at the end of its user's line, one that lost its slot at the front."""
        if front:
            self.release(job)
        elif self.max_running.get(job.user, 0) != job.max_running:
            self.max_running[job.user] = job.max_running
            self._settle(job.user)
        line = self.lines[job.lane].setdefault(job.user, deque())
        if front:
            line.appendleft(job)
        else:
            line.append(job)
        self._settle(job.user)

    def leave(self, job: Waiting) -> None:
        """A waiting job is withdrawn (cancelled, expired)."""
        self.lines[job.lane][job.user].remove(job)
        self._settle(job.user)

    def release(self, job: Waiting) -> None:
        """A job that was taken runs no more."""
        self.running.get(job.user, set()).discard(job.id)
        self._settle(job.user)

    def take(self) -> Waiting | None:
        """The next job: the oldest of the user with the least counter, in the lane whose turn it is; its prompt is
        charged. None when nothing waits that may run."""
        lane = self._lane()
        if lane is None:
            return None
        if not self.in_turn["interactive"]:
            self.batch_due = 0.0  # Batch runs freely: what it ran up is forgiven, else its debt would grow without end.
        user = min(self.in_turn[lane], key=lambda name: (self.counters[lane][name], name.encode()))
        job = self.lines[lane][user].popleft()
        self.running.setdefault(user, set()).add(job.id)
        self._settle(user)
        self.charge(job, PROMPT_COST * job.prompt_tokens)
        return job

    def charge(self, job: Waiting, cost: float) -> None:
        """A job was served tokens of that cost."""
        counters = self.counters[job.lane]
        counters[job.user] = counters.get(job.user, 0.0) + cost / job.weight
        if self.in_turn["interactive"] and (self.in_turn["batch"] or job.lane == "batch"):
            part = -1.0 if job.lane == "batch" else self.batch_share / (1 - self.batch_share)
            self.batch_due += cost * part

    def _lane(self) -> Lane | None:
        """Interactive first, but batch when its share is due."""
        if self.in_turn["interactive"] and not (self.in_turn["batch"] and self.batch_due > 0):
            return "interactive"
        return "batch" if self.in_turn["batch"] else None

    def _level(self, lane: Lane) -> float:
        counters = self.counters[lane]
        others = [counters[user] for user in self.in_turn[lane]]
        return min(others) if others else counters.get(self.last_left.get(lane, ""), 0.0)

    def _settle(self, user: str) -> None:
        """Let a user's turn come when something of theirs waits that they may run, and only then.

        Who comes is lifted to the least counter of those whose turn may come, so that neither idleness nor a limit
        of one's own banks credit; if there are none, to the counter of the user who left latest.
        """
        most = self.max_running.get(user, 0)
        may_run = not most or len(self.running.get(user, ())) < most
        for lane in LANES:
            may_come = may_run and bool(self.lines[lane].get(user))
            if may_come and user not in self.in_turn[lane]:
                counters = self.counters[lane]
                counters[user] = max(counters.get(user, 0.0), self._level(lane))
                self.in_turn[lane].add(user)
            elif not may_come and user in self.in_turn[lane]:
                self.in_turn[lane].remove(user)
                self.last_left[lane] = user


def script(batch_share: float = BATCH_SHARE) -> str:
    """The same rule in Lua, to be prepended to scripts that need it."""
    return f"local BATCH_SHARE = {batch_share!r}\n" + (Path(__file__).parent / "scripts" / "fair.lua").read_text()
