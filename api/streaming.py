"""Streamed answers: a job's events as a client's chunks."""

from __future__ import annotations

from collections.abc import Iterator

from redis.exceptions import RedisError

from api.answers.reader import reader_of
from api.dialects.base import Stream
from api.dialects.jobs import sse
from api.errors import LostSight, ServerStops, job_problem, problem_of
from api.outlook import outlook
from api.services import Services
from api.waiting import ClientGone, Waiter
from jobs.record import Job


class Closing:
    """A WSGI body that closes its waiter however it ends: read to the end, dropped by the server, never begun.

    The server calls `close` in all three cases; a generator's own `finally` would not run in the last.
    """

    def __init__(self, waiter: Waiter, chunks: Iterator[str]) -> None:
        self._waiter = waiter
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._chunks:
                if chunk:
                    yield chunk.encode()
        except ClientGone:
            pass
        finally:
            self._waiter.close()

    def close(self) -> None:
        self._waiter.close()


def answer_stream(waiter: Waiter, stream: Stream, at: Services) -> Closing:
    """A job's answer in a dialect's chunks. A token may have no text (the end of the text; half a character), and what
    may begin a tool call makes no chunk until it is known to be one, or not."""
    reader = reader_of(waiter.job)

    def chunks() -> Iterator[str]:
        yield stream.opening()
        try:
            for event in waiter.events():
                if event is None:
                    yield stream.waiting(waiting_note(at, waiter.job))
                elif event.name == "token" and (text := event.json()["text"]):
                    yield from map(stream.part, reader.feed(text))
            yield from map(stream.part, reader.finish())
            job = waiter.final()
        except (LostSight, ServerStops) as error:
            yield stream.error(problem_of(error))
            return
        if job.state in ("completed", "incomplete"):
            yield stream.end(job, reader.calls)
        else:
            yield stream.error(job_problem(job))

    return Closing(waiter, chunks())


def event_stream(waiter: Waiter, at: Services, note: str = "") -> Closing:
    """A job's events as they are, with their ids."""

    def chunks() -> Iterator[str]:
        if note:
            yield f": {note}\n\n"
        try:
            for event in waiter.events():
                yield f": {waiting_note(at, waiter.job)}\n\n" if event is None else sse(event)
        except (LostSight, ServerStops) as error:
            yield f": {problem_of(error).message}\n\n"

    return Closing(waiter, chunks())


def waiting_note(at: Services, job: Job) -> str:
    """State, queue position and estimated wait, as far as they are known, for who waits."""
    try:
        now = at.store.get(job.id) or job
    except RedisError:
        return "the queue is away for the moment"
    waits = outlook(at, now) if now.state == "queued" else None
    if waits is None:
        return now.state
    note = f"{now.state}, position {waits.position}"
    # Who has heard nothing for a second is not told that it takes none.
    return note if waits.wait_s is None else f"{note}, about {max(1, round(waits.wait_s))} s"
