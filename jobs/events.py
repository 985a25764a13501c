"""A job's event log: what an event is, and reading it from Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis import Redis

from jobs import keys

#: Before every entry of a log.
START = "0-0"

_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


@dataclass(frozen=True)
class Event:
    """One entry. `name` is `status`, `token` or `done`; `data` its JSON text; nothing follows a `done`."""

    id: str
    name: str
    data: str

    def json(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.data)
        return body


def order(event_id: str) -> tuple[int, int]:
    """Sorts ids as Redis does."""
    ms, _, sequence = event_id.partition("-")
    return int(ms), int(sequence)


def is_event_id(text: str) -> bool:
    """Whether a caller's `Last-Event-ID` has the form of one of ours, in the range of Redis's."""
    return _ID.fullmatch(text) is not None and max(order(text)) < 2**64


def find(redis: Redis, job_id: str, event_id: str) -> Event | None:
    """The event of that id in a job's log."""
    found = redis.xrange(keys.events(job_id), min=event_id, max=event_id)
    return Event(found[0][0], found[0][1]["event"], found[0][1]["data"]) if found else None


def token_data(text: str, tokens: Iterable[int]) -> str:
    """The data of a `token` event: its text, and the token ids, with which another worker could go on."""
    return json.dumps({"text": text, "tokens": list(tokens)}, separators=(",", ":"))


def read(redis: Redis, job_id: str, after: str = START) -> list[Event]:
    """The events behind `after`, oldest first; none for a log that does not exist."""
    entries = redis.xrange(keys.events(job_id), min=f"({after}")
    return [Event(entry_id, fields["event"], fields["data"]) for entry_id, fields in entries]


def produced(redis: Redis, job_id: str) -> tuple[str, tuple[int, ...]]:
    """The text and the tokens that a job's log holds so far."""
    data = [event.json() for event in read(redis, job_id) if event.name == "token"]
    return "".join(d["text"] for d in data), tuple(token for d in data for token in d["tokens"])
