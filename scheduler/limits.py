"""What one user may ask for: the limits that decide, before anything is queued, whether a request is taken.

`Minute` is the reference for quotas over time; what runs is the same rule in Lua (`scheduler/scripts/limits.lua`); a
property test holds the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

#: A quota's minute: the second that is going on and so many before it, so that no 60 seconds ever hold more.
WINDOW_S = 60

#: What became of a request: taken, or which limit it met: of all waiting jobs, of its user's, of requests, of tokens.
Verdict = Literal["ok", "queue_full", "user_queue_full", "requests", "tokens"]


@dataclass(frozen=True)
class UserLimits:
    """A user's limits; 0 is none."""

    #: In any 60 seconds, over all engine kinds. What counts as tokens: the prompt, and the longest answer that may
    #: come; what was not used of it is given back at the job's end.
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    #: Jobs that may wait for one engine kind. More are refused.
    max_queued: int = 0
    #: Jobs that may run on one engine kind at a time. More wait.
    max_running: int = 0


@dataclass(frozen=True)
class Admission:
    """What a user was told, and what is left of their minute: None where nobody looked, and a number that means
    nothing where there is no limit."""

    verdict: Verdict
    requests_left: int | None = None
    tokens_left: int | None = None
    #: In how many seconds all of it is left again.
    requests_reset_s: int = 0
    tokens_reset_s: int = 0
    #: When refused by a quota: in how many seconds there is room again.
    retry_after_s: int = 0

    @property
    def accepted(self) -> bool:
        return self.verdict == "ok"


@dataclass
class Minute:
    """A user's last minute: what was taken, by the second."""

    requests: dict[int, int] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)

    def take(self, limits: UserLimits, now_s: int, tokens: int) -> Admission:
        """Take one request and so many tokens, if both are left."""
        for taken in (self.requests, self.tokens):
            for second in [s for s in taken if s < now_s - WINDOW_S]:
                del taken[second]
        too_many_requests = _over(self.requests, limits.requests_per_minute, 1)
        too_many_tokens = _over(self.tokens, limits.tokens_per_minute, tokens)
        verdict: Verdict = "ok"
        retry_after_s = 0
        if too_many_requests:
            verdict, retry_after_s = "requests", _wait(self.requests, now_s, too_many_requests)
        if too_many_tokens:
            longer_s = _wait(self.tokens, now_s, too_many_tokens)
            if verdict == "ok" or longer_s > retry_after_s or longer_s == 0:  # 0: it will never do.
                verdict, retry_after_s = "tokens", longer_s
        if verdict == "ok":
            self.requests[now_s] = self.requests.get(now_s, 0) + 1
            if tokens:
                self.tokens[now_s] = self.tokens.get(now_s, 0) + tokens
        requests_sum, tokens_sum = sum(self.requests.values()), sum(self.tokens.values())
        return Admission(
            verdict,
            limits.requests_per_minute - requests_sum,
            limits.tokens_per_minute - tokens_sum,
            _wait(self.requests, now_s, requests_sum),
            _wait(self.tokens, now_s, tokens_sum),
            retry_after_s,
        )

    def give_back(self, second: int, tokens: int) -> None:
        """Give tokens back that were taken in a second, if it still counts for anything."""
        if second in self.tokens:
            self.tokens[second] -= tokens


def _over(taken: dict[int, int], most: int, asked: int) -> int:
    return max(0, sum(taken.values()) + asked - most) if most else 0


def _wait(taken: dict[int, int], now_s: int, need: int) -> int:
    """How long until `need` of what was taken no longer counts. Seconds; 0 when that will never be enough."""
    for second in sorted(taken) if need > 0 else ():
        need -= taken[second]
        if need <= 0:
            return second + WINDOW_S + 1 - now_s
    return 0


def script() -> str:
    """The same rule in Lua, to be prepended to scripts that need it."""
    return (Path(__file__).parent / "scripts" / "limits.lua").read_text()
