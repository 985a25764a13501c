"""How the text of an answer is to be read: kept with its job, for whoever writes the answer out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from engines.chat_format import FORMS, THINK, THOUGHT, CallForm

__all__ = ["FORMS", "THINK", "THOUGHT", "CallForm", "Reading"]

_KEY = "reading"


@dataclass(frozen=True)
class Reading:
    """By default there is nothing in it but text."""

    #: The form of calls (`engines.chat_format.FORMS`); empty where none are read.
    form: str = ""
    #: The functions that may be called; what names another is text.
    tools: tuple[str, ...] = ()
    #: Whether the answer may begin with thoughts; whether the prompt began them already.
    thinks: bool = False
    opened: bool = False
    #: Whether the caller gets the thoughts.
    shows_thoughts: bool = True


def to_answer(reading: Reading) -> dict[str, Any]:
    """As a part of `Job.answer`: nothing for plain text."""
    return {} if reading == Reading() else {_KEY: asdict(reading)}


def of_answer(answer: Mapping[str, Any]) -> Reading:
    """What `to_answer` gave."""
    kept = answer.get(_KEY)
    return Reading(**{**kept, "tools": tuple(kept["tools"])}) if kept else Reading()
