"""One attempt at a job, as its worker keeps it: what the engine made, what is published, and how it ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from engines import wire
from engines.base import End, GenerateTask, Task, Update
from jobs.events import token_data
from jobs.record import Job, JobError, Outcome, State, Usage
from jobs.store import SIGN_OF_LIFE, Tokens, now_ms

_STATES: dict[str, State] = {
    "stop": "completed",
    "length": "completed",
    "cancelled": "cancelled",
    "failed": "failed",
}


@dataclass(frozen=True)
class Ending:
    """How an attempt ends: the final state, the finish reason a caller is told, and the error if there is one."""

    state: State
    finish_reason: str
    error: JobError | None = None


DEADLINE = Ending(
    "incomplete", "length", JobError("deadline", "The run timeout was reached; the text so far is the result.")
)
#: Of embeddings and scores: some of them are no result.
TOO_LATE = Ending(
    "failed", "failed", JobError("deadline", "The run timeout was reached before the result was whole.")
)
CANCELLED = Ending("cancelled", "cancelled")
CANNOT_CONTINUE = Ending(
    "failed",
    "failed",
    JobError("cannot_continue", "The worker or its engine ended amid an answer of a given form, which cannot go on."),
)


class Attempt:
    """Owned by the host's thread; a slot only waits for `over`."""

    def __init__(self, job: Job, text: str = "", tokens: Iterable[int] = ()) -> None:
        """`text` and `tokens` are what the attempts before this one published."""
        self.job = job
        self.over = threading.Event()
        self.ending: Ending | None = None
        #: Whether the engine process that runs now has been given it.
        self.given = False
        #: Whether an engine died under it, and it has made nothing new since.
        self.suspect = job.crashes > 0
        #: The crash that was last counted for it together with others, of whom only one may be the cause.
        self.shared_crash = ""
        #: When it was made, monotonic seconds.
        self.begun = time.monotonic()
        #: When the job's record was last written, monotonic seconds.
        self.heard = time.monotonic()
        self._task = wire.task_from(json.loads(job.task))
        self._text = [text]
        self._tokens = list(tokens)
        self._events_published = job.published
        self._tokens_published = len(self._tokens)
        self._unpublished_text = ""
        self._vectors: dict[int, str] = {}
        self._first_token_ms = job.started_ms if self._tokens else 0
        if isinstance(self._task, GenerateTask) and len(self._tokens) >= self._task.sampling.max_tokens:
            self.ending = Ending("completed", "length")  # Only its end was lost.
        else:
            self.end_if_broken_off()

    @property
    def task_id(self) -> str:
        """Its name in the engine: what the engine still sends for an attempt before this one does not bear it."""
        return f"{self.job.id}/{self.job.attempt}"

    @property
    def at_deadline(self) -> Ending:
        """How it ends when its time is up."""
        return DEADLINE if isinstance(self._task, GenerateTask) else TOO_LATE

    def end_if_broken_off(self) -> None:
        """End it when its engine has gone and no other can go on: a grammar must be followed from the first token."""
        constrained = isinstance(self._task, GenerateTask) and self._task.grammar is not None
        if constrained and self._tokens and self.ending is None:
            self.ending = CANNOT_CONTINUE

    def engine_task(self) -> Task:
        """What to give an engine now: a generation goes on behind the tokens it has, all else starts again."""
        if isinstance(self._task, GenerateTask):
            return replace(self._task, id=self.task_id, resume=tuple(self._tokens))
        self._vectors.clear()
        return replace(self._task, id=self.task_id)

    def take(self, update: Update) -> None:
        """Add what a step brought. Updates behind the end are left out."""
        if self.ending is not None:
            return
        if update.tokens and not self._first_token_ms:
            self._first_token_ms = now_ms()
        self._text.append(update.text)
        self._tokens += update.tokens
        self._unpublished_text += update.text
        self._vectors.update(update.vectors)
        if update.end is not None:
            self.ending = _ending(update.end)

    @property
    def _has_news(self) -> bool:
        return len(self._tokens) > self._tokens_published or bool(self._unpublished_text)

    def unpublished(self) -> Tokens:
        """What to publish now: an event with the new tokens, or only a sign of life."""
        if not self._has_news:
            return SIGN_OF_LIFE
        new = self._tokens[self._tokens_published :]
        return Tokens(self._events_published, len(new), token_data(self._unpublished_text, new))

    def published(self) -> None:
        """What `unpublished` gave is in Redis."""
        if self._has_news:
            self._events_published += 1
        if self._has_news or self._vectors:
            self.suspect = False
        self._tokens_published = len(self._tokens)
        self._unpublished_text = ""
        self.heard = time.monotonic()

    def outcome(self) -> Outcome:
        """The result as it stands."""
        ended = now_ms()
        first = self._first_token_ms or ended
        usage = Usage(
            self.job.prompt_tokens, len(self._tokens), max(0, first - self.job.started_ms), max(0, ended - first)
        )
        reason = self.ending.finish_reason if self.ending else ""
        return Outcome("".join(self._text), reason, usage, tuple(v for _, v in sorted(self._vectors.items())))


def _ending(end: End) -> Ending:
    error = JobError(end.code, end.message) if end.reason == "failed" else None
    return Ending(_STATES[end.reason], end.reason, error)
