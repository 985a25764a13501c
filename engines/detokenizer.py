"""Text from tokens, as they come: never half a character, never a stop string.

Window decoding as in Hugging Face's text-generation-inference and vLLM: a token's text may depend on its
neighbours, so the tokens since the last emitted text are decoded together with those just before them, and what
is new is the difference. OpenVINO's detokenizers mark an unfinished character with U+FFFD or leave it out,
depending on how they were converted: in both cases there is nothing new until it is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

#: Decodes several token sequences in one call (one inference of the detokenizer model); special tokens are part of the
#: text with `skip_special_tokens=False` only.
DecodeBatch = Callable[..., list[str]]

#: So many bytes of a character can be there without it being whole. A longer run of U+FFFD is no text: given out.
MAX_UNFINISHED_BYTES = 3


@dataclass
class TextStream:
    """The text of one task. `stop` strings end it; the stop string itself is not part of the text.

    Special tokens are left out of it. Where some are to be kept, `left_out` are all the others.
    """

    stop: tuple[str, ...] = ()
    left_out: frozenset[int] | None = None
    stopped: bool = False
    _ids: list[int] = field(default_factory=list)
    _window: int = 0
    _read: int = 0
    _held: str = ""

    def windows(self, tokens: Sequence[int]) -> tuple[list[int], list[int]]:
        """Take new tokens; the two sequences to decode for `advance`: known text, and known and new text."""
        self._ids.extend(tokens if self.left_out is None else (t for t in tokens if t not in self.left_out))
        return self._ids[self._window : self._read], self._ids[self._window :]

    def advance(self, known: str, full: str) -> str:
        """The text to give out now, from the two decoded windows."""
        fresh = full[len(known) :]
        unfinished = len(fresh) - len(fresh.rstrip("\ufffd"))
        if self.stopped or not fresh or 0 < unfinished <= MAX_UNFINISHED_BYTES:
            return ""
        self._window, self._read = self._read, len(self._ids)
        self._held += fresh
        return self._give_out()

    def finish(self, known: str, full: str) -> str:
        """The rest of the text when no token will follow: what was held back is given out, half a character not."""
        if self.stopped:
            return ""
        text = self._held + full[len(known) :].rstrip("\ufffd")
        self._held = ""
        return text

    def _give_out(self) -> str:
        found = [at for s in self.stop if (at := self._held.find(s)) >= 0]
        if found:
            self.stopped = True
            text, self._held = self._held[: min(found)], ""
            return text
        keep = max((overlap(self._held, s) for s in self.stop), default=0)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`: so much must wait for the next token."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


def advance_all(
    decode: DecodeBatch, streams: Sequence[TextStream], tokens: Sequence[Sequence[int]]
) -> list[str]:
    """The new text of each stream after its new tokens, with one decode call for all of them."""
    pairs = [stream.windows(new) for stream, new in zip(streams, tokens, strict=True)]
    return [s.advance(*texts) for s, texts in zip(streams, _decoded(decode, streams, pairs), strict=True)]


def finish_all(decode: DecodeBatch, streams: Sequence[TextStream]) -> list[str]:
    """The held-back text of streams that have ended."""
    pairs = [stream.windows(()) for stream in streams]
    return [s.finish(*texts) for s, texts in zip(streams, _decoded(decode, streams, pairs), strict=True)]


def _decoded(
    decode: DecodeBatch, streams: Sequence[TextStream], pairs: Sequence[tuple[list[int], list[int]]]
) -> list[tuple[str, str]]:
    """Both windows of each stream as text."""
    found: dict[int, tuple[str, str]] = {}
    for keeps in (False, True):
        chosen = [i for i, stream in enumerate(streams) if (stream.left_out is not None) == keeps]
        sequences = [ids for i in chosen for ids in pairs[i]]
        if sequences:
            texts = _decoded_whole(decode, sequences) if keeps else decode(sequences)
            found.update({i: (texts[2 * n], texts[2 * n + 1]) for n, i in enumerate(chosen)})
    return [found[i] for i in range(len(streams))]


def _decoded_whole(decode: DecodeBatch, sequences: Sequence[list[int]]) -> list[str]:
    """Texts with their special tokens. One by one: the shorter ones of a batch would end with what fills it up."""
    return [decode([ids], skip_special_tokens=False)[0] if ids else "" for ids in sequences]
