"""Tool calls in a text that comes bit by bit: where one ends, and whether it is one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from jobs.reading import CallForm

#: Deeper JSON is no call.
MAX_DEPTH = 64

_MARKS = re.compile(r'["\\{}\[\]]')
_IN_STRING = re.compile(r'["\\]')


@dataclass(frozen=True)
class Called:
    """A function and its arguments, as JSON text of an object."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Found:
    """Calls, and how much of the text they take."""

    calls: tuple[Called, ...]
    length: int


class Candidate:
    """A text that may be calls, from its mark on. It grows; each of its characters is looked at about once."""

    def __init__(self, form: CallForm, tools: tuple[str, ...], mark: str) -> None:
        self._form = form
        self._tools = tools
        self.mark = mark
        self._json_at = -1
        self._at = 0
        self._depth = 0
        self._in_string = False
        self._json_end = -1
        self._calls: tuple[Called, ...] | None = None

    def look(self, text: str, final: bool) -> Found | bool:
        """What the text is: calls; none (False); or not known until there is more of it (True, never when `final`)."""
        if self._json_at < 0:
            start = len(self.mark) + len(text[len(self.mark) :]) - len(text[len(self.mark) :].lstrip())
            if start == len(text):
                return not final
            if text[start] not in ("[{" if self._form.listed else "{"):
                return False
            self._json_at = self._at = start
        if self._json_end < 0:
            match self._scan(text):
                case None:
                    return not final
                case 0:
                    return False
                case end:
                    self._json_end = end
            self._calls = read_calls(text[self._json_at : self._json_end], self._tools)
        if self._calls is None:
            return False
        return self._close(text, final)

    def _close(self, text: str, final: bool) -> Found | bool:
        """Whether the mark of the end stands behind it. At the end of the text it may be missing, or cut."""
        assert self._calls is not None
        close = self._form.close if self.mark else ""
        rest = text[self._json_end :].lstrip()
        if rest.startswith(close):
            return Found(self._calls, len(text) - len(rest) + len(close))
        if close.startswith(rest):
            return Found(self._calls, len(text)) if final else True
        return False

    def _scan(self, text: str) -> int | None:
        """Where the JSON ends that began at `_json_at`; None when it has not yet, 0 when it nests too deep."""
        while self._at < len(text):
            found = (_IN_STRING if self._in_string else _MARKS).search(text, self._at)
            if found is None:
                self._at = len(text)
                return None
            character = found[0]
            if character == "\\":
                if found.end() == len(text):  # What it escapes is yet to come.
                    self._at = found.start()
                    return None
                self._at = found.end() + 1
                continue
            self._at = found.end()
            if character == '"':
                self._in_string = not self._in_string
            else:
                self._depth += 1 if character in "{[" else -1
                if self._depth == 0:
                    return self._at
                if self._depth > MAX_DEPTH:
                    return 0
        return None


def read_calls(text: str, tools: tuple[str, ...]) -> tuple[Called, ...] | None:
    """The calls in JSON: one object or a list of them. None unless all are calls of those tools."""
    try:
        body = json.loads(text)
        calls = tuple(_call(each, tools) for each in (body if isinstance(body, list) else [body]))
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return calls or None


def _call(body: Any, tools: tuple[str, ...]) -> Called:
    """Raises LookupError, TypeError or ValueError for what is no call."""
    name = body["name"]
    if name not in tools:
        raise LookupError(name)
    arguments = body.get("arguments", body.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise TypeError(name)
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    text.encode()  # Half a surrogate pair is no text.
    return Called(name, text)
