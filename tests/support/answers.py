"""What the fake engine must have answered, event by event."""

from collections.abc import Iterable, Sequence

from jobs import events
from jobs.events import Event
from jobs.hub import EventHub
from jobs.record import Job
from tests.support.waiting import LIMIT_S


def numbered(count: int) -> str:
    """The fake engine's whole answer of so many tokens."""
    return "".join(f" {n}" for n in range(1, count + 1))


def text_of(log: Iterable[Event]) -> str:
    return "".join(event.json()["text"] for event in log if event.name == "token")


def assert_whole(log: Sequence[Event], count: int, state: str = "completed") -> None:
    """These events are one job's whole story: every token once and in order, one end, nothing behind it.

    The fake engine's token n is the word n, so a token that was lost or came twice shows in the text and in the ids.
    """
    ids = [events.order(event.id) for event in log]
    assert ids == sorted(set(ids)), "an event came twice, or in the wrong order"
    tokens = [token for event in log if event.name == "token" for token in event.json()["tokens"]]
    assert text_of(log) == numbered(count)
    assert tokens == list(range(1, count + 1))
    assert [event.name for event in log].count("done") == 1
    assert log[-1].name == "done"
    assert log[-1].json()["status"] == state


def follow(hub: EventHub, job: Job | str, after: str = events.START, timeout_s: float = LIMIT_S) -> list[Event]:
    """All events of a job behind `after`, to its end, as a client hears them."""
    heard: list[Event] = []
    tick_s = 0.1
    silent_s = 0.0
    with hub.subscribed(job if isinstance(job, str) else job.id) as follower:
        for event in follower.follow(after, tick_s):
            if event is not None:
                heard.append(event)
                silent_s = 0.0
            else:
                silent_s += tick_s
                assert silent_s < timeout_s, f"nothing followed {[e.name for e in heard]}"
    return heard
