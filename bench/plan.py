"""How much is measured: time for each subject, and the size of one sample."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Each subject repeats its rounds until its time is used up; a round measures both sides once."""

    #: Time of a subject, without start and warm-up. Seconds.
    ttft_s: float = 40.0
    throughput_s: float = 90.0
    embedding_s: float = 40.0
    idle_s: float = 4.0
    #: Rounds that are run even if the time is over: a slow machine takes longer.
    least_rounds: int = 3
    #: First tokens measured in a row on one side.
    ttft_run: int = 10
    #: Tokens generated after the first one is in, so that each request is an ordinary stream.
    ttft_tokens: int = 8
    stream_tokens: int = 128
    streams: int = 8
    texts: int = 128
    small_run: int = 20

    def rounds(self, budget_s: float) -> Iterator[int]:
        """Round numbers from 0 until another round would overrun the budget."""
        begun_s = time.monotonic()
        done = 0
        while True:
            spent_s = time.monotonic() - begun_s
            if done >= self.least_rounds and spent_s * (done + 1) / done > budget_s:
                return
            yield done
            done += 1


FULL = Plan()
QUICK = Plan(
    ttft_s=3.0, throughput_s=8.0, embedding_s=3.0, idle_s=1.0, least_rounds=2, stream_tokens=64, texts=32
)
