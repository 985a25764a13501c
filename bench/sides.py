"""The seam of every measurement: two sides that do the same work, the model in process and the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

#: A chat of one user message; every side renders it with the model's own chat template.
Prompt = str


class BenchError(Exception):
    """The measurement cannot be made, or its sides did not do the same work: a figure would mean nothing."""


@dataclass(frozen=True)
class Generation:
    """What a side did with prompts that it was given all at once; times since the first was sent."""

    #: Until any stream had its first text.
    first_s: float
    #: Until all answers were whole.
    total_s: float
    #: Generated, in all streams together.
    tokens: int
    prompt_tokens: int
    #: Each stream's text, in the order of the prompts.
    texts: tuple[str, ...]

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.total_s


class Side(Protocol):
    """Does work and tells how long it took. Blocks until it is done; raises `BenchError`."""

    def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> Generation:
        """Greedy text of exactly `max_tokens` tokens for each prompt, all prompts at the same time."""

    def embed(self, texts: Sequence[str]) -> float:
        """The vectors of all texts in one call; seconds."""


Kept = TypeVar("Kept")


def in_turn(number: int, one: tuple[Side, Kept], other: tuple[Side, Kept]) -> Sequence[tuple[Side, Kept]]:
    """The sides, each with where its figures are kept, in the order in which round `number` measures them:
    each goes first every other time."""
    return (one, other) if number % 2 == 0 else (other, one)


def check_same(one: Generation, other: Generation) -> None:
    """Raise `BenchError` unless both sides read and made the same number of tokens.

    The texts may differ: batching changes greedy choices slightly (docs: OpenVINO, dynamic quantization).
    """
    for what, a, b in (
        ("prompt tokens", one.prompt_tokens, other.prompt_tokens),
        ("tokens", one.tokens, other.tokens),
    ):
        if a != b:
            raise BenchError(f"the sides did not do the same work: {a} and {b} {what}")
