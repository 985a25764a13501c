"""A model's own tokenizer and chat template, without its weights: to count prompts before they are queued.

`Tokenizer.encode` holds the GIL, about 0.3 ms for 1,000 tokens. So that no text freezes the streams of its process,
long ones are counted in slices, and the count stops once it is over the limit.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from engines import special_tokens
from engines.chat_format import HERMES, ChatFormat, of_template
from engines.errors import PromptError, reason_of
from engines.slices import SLICE_CHARS, groups

#: A tokenizer's work is tiny: more threads cost four times the CPU and win nothing.
PROPERTIES = {"INFERENCE_NUM_THREADS": 1}

Messages = Sequence[Mapping[str, Any]]
NO_CONTEXT: Mapping[str, Any] = MappingProxyType({})


class PromptTokenizer(Protocol):
    """What the way to the queue needs of a model's tokenizer. Thread-safe."""

    #: What the model's chat template says of its answers.
    chat_format: ChatFormat

    def render(
        self, messages: Messages, tools: Messages = (), context: Mapping[str, Any] = NO_CONTEXT
    ) -> str:
        """The prompt that the model's chat template makes of a conversation, to be given to `count` and `encode` as it
        is: what looks like special tokens in messages and tools is marked not to be read so. `context` are further
        variables of the template. Raises `PromptError`."""

    def count(self, texts: Sequence[str], limit: int, special: bool = False) -> list[int]:
        """Tokens in each text: exact up to `SLICE_CHARS` characters, else within a few. Of a longer text than `limit`
        tokens only so much may be counted as shows that it is.

        `special` counts those that the tokenizer adds by itself.
        """

    def encode(self, text: str, special: bool = False) -> tuple[int, ...] | None:
        """The tokens of a text of up to `SLICE_CHARS` characters; None when they cannot be had whole in one go."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones left out. Raises `PromptError` for a token the model does not have."""


class ModelTokenizer:
    """GenAI's tokenizer of a model folder or GGUF file. Loads in 0.1 to 2.5 s, up to 140 MB."""

    def __init__(self, path: Path) -> None:
        import openvino_genai

        self._tokenizer = openvino_genai.Tokenizer(str(path), **PROPERTIES)
        self._special_tokens = special_tokens.special_tokens(self._tokenizer)
        self._cuts_at = self._find_cut()
        self.chat_format = of_template(self._tokenizer.chat_template or "", self._special_tokens)

    def _find_cut(self) -> int:
        """Some tokenizers silently cut what is over their own limit: found out by giving this one more tokens than a
        slice can have, which is four a character. From so many on, a count is not to be trusted."""
        five, six = (self._lengths(["a " * (n * SLICE_CHARS)], special=False)[0] for n in (5, 6))
        return five if five == six else sys.maxsize

    def render(
        self, messages: Messages, tools: Messages = (), context: Mapping[str, Any] = NO_CONTEXT
    ) -> str:
        try:
            prompt: str = self._tokenizer.apply_chat_template(
                self._safe(messages),
                add_generation_prompt=True,
                tools=self._safe(tools) or None,
                extra_context=dict(context) or None,
            )
        except Exception as error:
            raise PromptError(f"The model's chat template does not take these messages: {reason_of(error)}") from error
        return special_tokens.rendered(prompt)

    def _safe(self, objects: Messages) -> list[dict[str, Any]]:
        """Copies in which no text is read as a special token."""
        special = self._special_tokens
        return [dict(each if special is None else special_tokens.broken(each, special)) for each in objects]

    def count(self, texts: Sequence[str], limit: int, special: bool = False) -> list[int]:
        counts: list[int] = []
        for group in groups(texts):
            if len(group) == 1:
                counts.append(self._count_one(group[0], limit, special))
            else:
                counts += [n if n < self._cuts_at else limit + 1 for n in self._lengths(group, special)]
        return counts

    def _count_one(self, text: str, limit: int, special: bool) -> int:
        total = 0
        for start in range(0, max(1, len(text)), SLICE_CHARS):
            part = self._lengths([text[start : start + SLICE_CHARS]], special and start == 0)[0]
            total += part
            if total >= self._cuts_at:
                return max(total, limit + 1)
            if total > limit:
                break
        return total

    def _lengths(self, texts: list[str], special: bool) -> list[int]:
        if len(texts) == 1 and not special and special_tokens.BREAK in texts[0]:
            return [len(special_tokens.encode(self._tokenizer, texts[0], special))]
        mask = self._tokenizer.encode(texts, add_special_tokens=special).attention_mask.data
        lengths = [int(length) for length in mask.sum(axis=1)]
        return lengths if any(texts) else lengths[:1] * len(texts)  # Several empty texts are one to OpenVINO.

    def encode(self, text: str, special: bool = False) -> tuple[int, ...] | None:
        if len(text) > SLICE_CHARS:
            return None
        ids = special_tokens.encode(self._tokenizer, text, special)
        return tuple(ids) if len(ids) < self._cuts_at else None

    def decode(self, tokens: Sequence[int]) -> str:
        size = self._vocabulary_size
        if any(not 0 <= token < size for token in tokens):
            raise PromptError(f"Token ids of this model run from 0 to {size - 1}.")
        text: str = self._tokenizer.decode(list(tokens))
        return text

    @cached_property
    def _vocabulary_size(self) -> int:
        try:
            return int(max(self._tokenizer.get_vocab().values())) + 1
        except RuntimeError as error:  # A model may come without a detokenizer.
            raise PromptError("This model takes text only, no token ids.") from error


class FakeTokenizer:
    """The fake engine's: a token is a word."""

    chat_format = ChatFormat(tools=True, form=HERMES, thinks=True, switchable=True)

    def render(
        self, messages: Messages, tools: Messages = (), context: Mapping[str, Any] = NO_CONTEXT
    ) -> str:
        return "\n".join(f"{m['role']}: {m.get('content') or ''}" for m in messages)

    def count(self, texts: Sequence[str], limit: int, special: bool = False) -> list[int]:
        return [len(text.split()) for text in texts]

    def encode(self, text: str, special: bool = False) -> tuple[int, ...] | None:
        return None  # The fake engine reads its commands in the words.

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(map(str, tokens))
