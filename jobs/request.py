"""What a caller wants, in no dialect: the API translates to this, `jobs.submit` makes jobs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from engines.base import Grammar, Kind, Sampling
from engines.json_schema import schema_grammar
from jobs.record import Lane
from scheduler.limits import UserLimits

__all__ = [
    "EmbedRequest",
    "GenerateRequest",
    "Grammar",
    "Image",
    "Request",
    "RerankRequest",
    "Sampling",
    "Terms",
    "Tools",
    "schema_grammar",
]


@dataclass(frozen=True)
class Terms:
    """Who asks, and how long they wait. Times in seconds; None for the server's own limits, which are the most."""

    user: str
    owner: str = "local"
    weight: float = 1.0
    limits: UserLimits = field(default_factory=UserLimits)
    lane: Lane = "interactive"
    #: Whether the caller goes away and fetches the result later.
    detached: bool = False
    queue_timeout_s: float | None = None
    run_timeout_s: float | None = None
    #: For waiting and running together; None for no such limit.
    timeout_s: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tools:
    """Functions that the answer may call, as chat templates know them: `{"type": "function", "function": {"name",
    "parameters", …}}`."""

    offered: tuple[Mapping[str, Any], ...] = ()
    #: Names of those of which one must be called; none where that is the model's choice.
    forced: tuple[str, ...] = ()
    #: Whether several may be called in one answer, where one must be.
    many: bool = True


@dataclass(frozen=True)
class Image:
    """A picture in a message: base64 of a PNG or JPEG that has been checked, and its size in pixels."""

    data: str
    width: int
    height: int


@dataclass(frozen=True)
class GenerateRequest:
    """Text wanted, from a conversation or from a prompt as it is. `sampling.max_tokens` 0 means the default.

    A message's content is text, or a tuple of texts and `Image`s.
    """

    #: The kinds of engine that can do it.
    kinds: ClassVar[tuple[Kind, ...]] = ("llm", "vision")
    endpoint: str
    model: str
    sampling: Sampling
    messages: tuple[Mapping[str, Any], ...] = ()
    prompt: str = ""
    #: The field that holds the text, for errors.
    param: str = "messages"
    #: What the answer must be, and the field that says so.
    grammar: Grammar | None = None
    grammar_param: str = ""
    tools: Tools = Tools()
    #: Whether the model thinks before it answers, and the caller gets the thoughts; None for both as the model does.
    thinking: bool | None = None
    answer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EmbedRequest:
    """Vectors wanted. A text may come as token ids of the model's own. `truncate` cuts what is over its limit."""

    kinds: ClassVar[tuple[Kind, ...]] = ("embed",)
    endpoint: str
    model: str
    texts: tuple[str | tuple[int, ...], ...]
    truncate: bool = False
    #: 0 for the model's own.
    dimensions: int = 0
    param: str = "input"
    answer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RerankRequest:
    """A score wanted for each text: how well it answers the query."""

    kinds: ClassVar[tuple[Kind, ...]] = ("rerank",)
    endpoint: str
    model: str
    query: str
    texts: tuple[str, ...]
    param: str = "documents"
    answer: Mapping[str, Any] = field(default_factory=dict)


Request = GenerateRequest | EmbedRequest | RerankRequest
