"""What is asked: prompts that no cache has seen, and texts of mixed lengths. The same in every run."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

_SEED = 20_261
#: Common words, so that each is one token to about any vocabulary.
_WORDS = (
    "the time of year when people in this city go out to see water and light over old houses is short but "
    "good for all who like to walk along the river with a friend and talk about work life food music or what "
    "they read"
).split()
#: Words in a text: many short ones, a few long, as titles, sentences and paragraphs come.
_LENGTHS_WORDS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 160)
_LENGTHS_WEIGHTS = (12, 18, 18, 16, 12, 10, 6, 4, 3, 1)


def prompts() -> Iterator[str]:
    """Short prompts without end, no two alike, all about equally long."""
    for number in itertools.count(1000):
        yield f"Tell me something about the number {number}, in a few short sentences."


def small_texts() -> Iterator[str]:
    """Short texts without end, no two alike."""
    for number in itertools.count(1000):
        yield f"A short sentence to embed, number {number}."


def mixed_texts(count: int) -> list[str]:
    """Texts of 4 to 160 words, in no order of length, each call's the same."""
    chance = random.Random(_SEED)
    lengths = chance.choices(_LENGTHS_WORDS, _LENGTHS_WEIGHTS, k=count)
    return [" ".join(chance.choices(_WORDS, k=length)) for length in lengths]
