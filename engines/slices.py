"""Texts in groups that are encoded in one go: `Tokenizer.encode` holds the GIL, and pads a group to its longest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

#: Characters encoded in one go: a few ms at most.
SLICE_CHARS = 16_384


def groups(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in order, in groups of up to `SLICE_CHARS` characters when padded, or of one."""
    group: list[str] = []
    longest = 0
    for text in texts:
        longest = max(longest, len(text))
        if group and longest * (len(group) + 1) > SLICE_CHARS:
            yield group
            group, longest = [], len(text)
        group.append(text)
    if group:
        yield group
