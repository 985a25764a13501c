"""What a dialect provides for each endpoint. The way of a request is the same for all: `api.serve`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema

from api.answers.reader import Call, Part, Text, Thought
from api.errors import Problem
from jobs.record import Job
from jobs.request import Request

Body = Mapping[str, Any]
Json = dict[str, Any]


class Stream(ABC):
    """The chunks of one streamed answer, as text on the wire. Every chunk is whole by itself."""

    media_type: str

    @abstractmethod
    def opening(self) -> str:
        """What comes before the first token; may be empty."""

    def part(self, part: Part) -> str:
        """A part of the answer."""
        match part:
            case Text():
                return self.token(part.text)
            case Thought():
                return self.thought(part.text)
            case Call():
                return self.call(part)

    @abstractmethod
    def token(self, text: str) -> str:
        """New text."""

    @abstractmethod
    def thought(self, text: str) -> str:
        """New text of the model's thoughts."""

    @abstractmethod
    def call(self, call: Call) -> str:
        """A tool call."""

    @abstractmethod
    def waiting(self, note: str) -> str:
        """Something valid to say while nothing happens; `note` says what is awaited."""

    @abstractmethod
    def end(self, job: Job, calls: int = 0) -> str:
        """The end of a job that has a result, with so many calls in it."""

    @abstractmethod
    def error(self, problem: Problem) -> str:
        """The end of a stream that has no result."""


@dataclass(frozen=True)
class Operation:
    """One inference endpoint: how its bodies are read and its answers written."""

    endpoint: str
    schema: Schema
    translate: Callable[[Body], Request]
    result: Callable[[Job], Json]
    #: None where nothing can be streamed.
    stream: Callable[[Job, Body], Stream] | None = None
    #: An answer that needs no job (Ollama's empty prompt), or None.
    shortcut: Callable[[Body], Json | None] = lambda body: None


def given(body: Body, *names: str) -> dict[str, Any]:
    """The fields that were given, and not as null."""
    return {name: body[name] for name in names if body.get(name) is not None}
