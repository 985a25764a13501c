"""Streamed answers: a job's events as a client's chunks."""

from __future__ import annotations

from collections.abc import Iterator

from redis.exceptions import RedisError

from api.dialects.base import Stream
from api.dialects.jobs import sse
from api.errors import LostSight, job_problem, problem_of
from api.waiting import ClientGone, Waiter
from jobs.record import Job
from jobs.store import JobStore


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


def answer_stream(waiter: Waiter, stream: Stream, store: JobStore) -> Closing:
    """A job's answer in a dialect's chunks. A token may have no text (the end of the text; half a character)."""

    def chunks() -> Iterator[str]:
        yield stream.opening()
        try:
            for event in waiter.events():
                if event is None:
                    yield stream.waiting(waiting_note(store, waiter.job))
                elif event.name == "token" and (text := event.json()["text"]):
                    yield stream.token(text)
            job = waiter.final()
        except LostSight as error:
            yield stream.error(problem_of(error))
            return
        yield stream.end(job) if job.state in ("completed", "incomplete") else stream.error(job_problem(job))

    return Closing(waiter, chunks())


def event_stream(waiter: Waiter, store: JobStore, note: str = "") -> Closing:
    """A job's events as they are, with their ids."""

    def chunks() -> Iterator[str]:
        if note:
            yield f": {note}\n\n"
        try:
            for event in waiter.events():
                yield f": {waiting_note(store, waiter.job)}\n\n" if event is None else sse(event)
        except LostSight as error:
            yield f": {problem_of(error).message}\n\n"

    return Closing(waiter, chunks())


def waiting_note(store: JobStore, job: Job) -> str:
    """State and queue position, for who waits."""
    try:
        now = store.get(job.id) or job
        position = store.position(now) if now.state == "queued" else None
    except RedisError:
        return "the queue is away for the moment"
    return now.state if position is None else f"{now.state}, position {position}"
