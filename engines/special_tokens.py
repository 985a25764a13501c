"""Keeps a caller's text from being read as a model's special tokens.

A tokenizer reads `<|im_end|>` as the token that ends a turn wherever it stands, so a user could write the system's next
words. Before a chat template is put around it, such a text is broken with `BREAK` behind its first character; the
rendered prompt is then encoded piece by piece. The model reads the same characters, spelled with ordinary tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from engines.slices import groups

#: A noncharacter, which Unicode keeps for such uses: no text that is meant for others has it.
BREAK = "\ufdd0"
#: As templates that write JSON may spell it.
_ESCAPED_BREAK = r"\ufdd0"

_DECODED_AT_ONCE = 4096


def special_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """The special tokens of a GenAI tokenizer: those that decoding leaves out. None for one without a detokenizer,
    which no chat goes through. Takes 50 ms for 50,000 tokens."""
    try:
        texts = {text for text in special_texts(tokenizer).values() if len(text) > 1}
    except RuntimeError:
        return None
    # What would be taken for a break of ours in a rendered prompt is broken, too.
    texts |= {_ESCAPED_BREAK} if texts else set()
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True)))) if texts else None


def special_texts(tokenizer: Any) -> dict[int, str]:
    """The id and text of each special token. RuntimeError for a tokenizer without a detokenizer."""
    ids = list(tokenizer.get_vocab().values())
    hidden = [token for token, text in zip(ids, _decode(tokenizer, ids), strict=True) if text == ""]
    return dict(zip(hidden, _decode(tokenizer, hidden, skip_special_tokens=False), strict=True))


class SpecialTexts:
    """The special tokens of one tokenizer, found out when they are first asked for."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def _texts(self) -> dict[int, str]:
        return special_texts(self._tokenizer)

    def all_but(self, kept: tuple[str, ...]) -> frozenset[int] | None:
        """The ids of all special tokens but those of these texts; None when all are left out."""
        return frozenset(token for token, text in self._texts.items() if text not in kept) if kept else None


def _decode(tokenizer: Any, ids: list[int], **options: Any) -> list[str]:
    texts: list[str] = []
    for start in range(0, len(ids), _DECODED_AT_ONCE):
        texts += tokenizer.decode([[token] for token in ids[start : start + _DECODED_AT_ONCE]], **options)
    return texts


def broken(value: Any, tokens: re.Pattern[str]) -> Any:
    """A message or whatever is in it, with every special token in its texts broken."""
    if isinstance(value, str):
        return _broken_text(value, tokens)
    if isinstance(value, Mapping):
        return {broken(name, tokens): broken(each, tokens) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [broken(each, tokens) for each in value]
    return value


def _broken_text(text: str, tokens: re.Pattern[str]) -> str:
    if BREAK in text:
        text = text.replace(BREAK, "")
    # What is left of one token may hold another.
    while tokens.search(text):
        text = tokens.sub(lambda found: found[0][0] + BREAK + found[0][1:], text)
    return text


def rendered(prompt: str) -> str:
    """A prompt as its template wrote it, with each break as it was."""
    return prompt.replace(_ESCAPED_BREAK, BREAK)


def encode(tokenizer: Any, text: str, special: bool) -> list[int]:
    """A prompt's tokens. With `special` it is a text as its caller wrote it, not one that was rendered: the tokenizer
    adds its own tokens, and nothing is broken in it."""
    if special:
        return _encode_one(tokenizer, text.replace(BREAK, ""), True)
    pieces = [piece for piece in text.split(BREAK) if piece]
    ids: list[int] = []
    for group in groups(pieces or [""]):
        if len(group) == 1:
            ids += _encode_one(tokenizer, group[0], False)
            continue
        made = tokenizer.encode(group, add_special_tokens=False, padding_side="right")
        for row, length in zip(made.input_ids.data, made.attention_mask.data.sum(axis=1), strict=True):
            ids += row[:length].tolist()
    return ids


def _encode_one(tokenizer: Any, text: str, special: bool) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=special).input_ids.data[0].tolist()
    return ids
