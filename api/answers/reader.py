"""Content, thoughts and tool calls of an answer, as its text comes: what may begin a call waits until that is known.

    answer   = [thoughts] content
    thoughts = "<think>" … "</think>", the first mark being in the prompt for some models
    content  = text and calls, in the form of the model (`engines.chat_format`)

Wherever the text is cut into pieces, the parts are the same, but for how text is divided into parts. What looks like a
call and is none is text, with its marks. White space around thoughts and before calls belongs to the form, not to the
text.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from api.answers.calls import Called, Candidate, Found
from jobs.reading import FORMS, THINK, THOUGHT, Reading, of_answer
from jobs.record import Job

_LETTERS = string.ascii_letters + string.digits
#: As templates of Mistral's want it.
ID_LENGTH = 9


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Thought:
    text: str


@dataclass(frozen=True)
class Call:
    """The calls of an answer are numbered from 0. `arguments` is the JSON text of an object."""

    index: int
    id: str
    name: str
    arguments: str


Part = Text | Thought | Call


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    text: str
    thoughts: str
    calls: tuple[Call, ...]


class Reader:
    """Reads one answer. `feed` it all the text, then `finish`."""

    def __init__(self, reading: Reading, job_id: str) -> None:
        self._reading = reading
        self._job_id = job_id
        self._form = FORMS.get(reading.form)
        self._marks = (self._form.mark,) if self._form else ()
        self._held = ""
        self._state: Callable[[bool], bool] = self._content
        if reading.opened or reading.thinks:
            self._state = self._thought if reading.opened else self._opening
        #: Whether anything but white space has been seen in this state.
        self._begun = False
        #: Whether white space at the beginning of the content is left out, as it is behind thoughts.
        self._strips = False
        self._candidate: Candidate | None = None
        #: White space before it, which belongs to the text if it is no call.
        self._space = ""
        self._parts: list[Part] = []
        self.calls = 0

    def feed(self, text: str) -> list[Part]:
        """The parts that are known with this further text."""
        if self._form is None and self._state == self._content and not self._strips:
            return [Text(text)] if text else []
        self._held += text
        return self._read(final=False)

    def finish(self) -> list[Part]:
        """The parts that were held back, when no text will follow."""
        return self._read(final=True)

    def _read(self, final: bool) -> list[Part]:
        while self._held and self._state(final):
            pass
        parts, self._parts = self._parts, []
        return parts

    # Each state takes what it can from the held text, and says whether to go on.

    def _opening(self, final: bool) -> bool:
        rest = self._held.lstrip()
        if rest.startswith(THINK):
            self._held = rest[len(THINK) :]
            self._state = self._thought
            return True
        if THINK.startswith(rest) and not final:
            return False
        self._state = self._content
        return True

    def _thought(self, final: bool) -> bool:
        if not self._begun:
            self._held = self._held.lstrip()
            self._begun = bool(self._held)
        before, mark, behind = self._held.partition(THOUGHT)
        if not mark:
            sure = self._held if final else _sure(self._held, (THOUGHT,))
            self._think(sure)
            self._held = self._held[len(sure) :]
            return False
        self._think(before.rstrip())
        self._held = behind
        self._state, self._begun, self._strips = self._content, False, True
        return True

    def _think(self, text: str) -> None:
        if text and self._reading.shows_thoughts:
            self._parts.append(Thought(text))

    def _content(self, final: bool) -> bool:
        if self._candidate is not None:
            return self._call(self._candidate, final)
        if self._strips:
            self._held = self._held.lstrip()
            if not self._held:
                return False
            self._strips = False
        if self._form is None:
            self._say(len(self._held))
            return False
        if self._form.bare and not self._begun and self._held.lstrip().startswith("{"):
            return self._begin(self._held.index("{"), "")
        at = self._held.find(self._form.mark)
        if at < 0:
            self._say(len(self._held) if final else len(_sure(self._held, self._marks)))
            return False
        before = len(self._held[:at].rstrip())
        self._say(before)
        return self._begin(at - before, self._form.mark)

    def _begin(self, at: int, mark: str) -> bool:
        assert self._form is not None
        self._space, self._held = self._held[:at], self._held[at:]
        self._candidate = Candidate(self._form, self._reading.tools, mark)
        return True

    def _call(self, candidate: Candidate, final: bool) -> bool:
        found = candidate.look(self._held, final)
        if found is True:
            return False
        self._candidate = None
        if isinstance(found, Found):
            for call in found.calls:
                self._parts.append(self._numbered(call))
            self._held = self._held[found.length :]
            self._strips = True
        else:
            self._held = self._space + self._held
            self._say(len(self._space) + (len(candidate.mark) or 1))
        return True

    def _say(self, length: int) -> None:
        if length:
            self._parts.append(Text(self._held[:length]))
            self._held = self._held[length:]
            self._begun = True

    def _numbered(self, call: Called) -> Call:
        digest = hashlib.sha256(f"{self._job_id} {self.calls}".encode()).digest()
        name = "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:ID_LENGTH])
        self.calls += 1
        return Call(self.calls - 1, name, call.name, call.arguments)


def _sure(text: str, marks: Iterable[str]) -> str:
    """The text without an end that may begin a mark, and without white space before that."""
    keep = max(next((n for n in range(min(len(text), len(m) - 1), 0, -1) if text.endswith(m[:n])), 0) for m in marks)
    return text[: len(text) - keep].rstrip()


def reader_of(job: Job) -> Reader:
    """A reader for a job's answer."""
    return Reader(of_answer(job.answer), job.id)


def answer_of(job: Job) -> Answer:
    """The answer of a job that has a result."""
    assert job.outcome is not None
    reader = reader_of(job)
    parts = [*reader.feed(job.outcome.text), *reader.finish()]
    return Answer(
        "".join(part.text for part in parts if isinstance(part, Text)),
        "".join(part.text for part in parts if isinstance(part, Thought)),
        tuple(part for part in parts if isinstance(part, Call)),
    )


def finish_reason(job: Job, calls: int) -> str:
    """OpenAI's: that of the text, unless it ended by calling."""
    assert job.outcome is not None
    return "tool_calls" if calls and job.outcome.finish_reason == "stop" else job.outcome.finish_reason
