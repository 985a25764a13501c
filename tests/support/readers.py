"""Clients that stay connected while things die: each hears one job's events, and knows when it heard them."""

import threading
import time

from jobs import events
from jobs.events import Event
from jobs.hub import EventHub
from jobs.record import Job
from tests.support.waiting import until


class Reader(threading.Thread):
    """Follows a job from its first event to its last, from now on."""

    def __init__(self, hub: EventHub, job: Job) -> None:
        super().__init__(daemon=True)
        self.job = job
        self._hub = hub
        self._heard: list[tuple[float, Event]] = []
        self.start()

    def run(self) -> None:
        with self._hub.subscribed(self.job.id) as follower:
            for event in follower.follow(events.START, tick_s=1.0):
                if event is not None:
                    self._heard.append((time.time(), event))

    @property
    def tokens(self) -> int:
        """How many events with tokens it has heard."""
        return len(self._token_times())

    def until_tokens(self, count: int) -> None:
        """Wait until it has heard so many events with tokens."""
        until(lambda: self.tokens >= count, 60, f"{count} tokens")

    def log(self, timeout_s: float = 60) -> list[Event]:
        """All it heard, once the job has ended."""
        self.join(timeout_s)
        heard = [event for _, event in list(self._heard)]
        assert not self.is_alive(), f"no end of {self.job.id} but {[event.name for event in heard]}"
        return heard

    def outage_s(self, since: float) -> float:
        """How long after that moment (unix seconds) the tokens came again: up to the end of the longest silence since.
        What was made before the moment may be heard after it, and is not what is asked for."""
        times = self._token_times()
        ends = [moment for moment in times if moment > since]
        starts = [since, *ends]
        silences = [(end - start, end) for start, end in zip(starts, ends, strict=False)]
        assert silences, "nothing came after it"
        return max(silences)[1] - since

    def _token_times(self) -> list[float]:
        return [moment for moment, event in list(self._heard) if event.name == "token"]
