"""What a model's chat template says of the texts the model writes: tool calls and their marks, thoughts.

Forms of calls, each as the model families that were trained on it write it:

    hermes   <tool_call>{"name": …, "arguments": {…}}</tool_call>, one after the other (Qwen, Hermes, SmolLM3)
    llama3   {"name": …, "parameters": {…}} as the whole answer, or behind <|python_tag|>
    mistral  [TOOL_CALLS][{"name": …, "arguments": {…}}, …]
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engines.base import Grammar
from engines.json_schema import exact

THINK, THOUGHT = "<think>", "</think>"


@dataclass(frozen=True)
class CallForm:
    """How a model writes that it calls tools."""

    name: str
    #: What stands before a call, or before a list of them, and behind it.
    mark: str
    close: str
    #: The key of the arguments; either of the two that are in use is read.
    arguments: str
    #: Whether an answer may begin with a call without its mark.
    bare: bool = False
    #: Whether calls come as a list.
    listed: bool = False


HERMES = CallForm("hermes", "<tool_call>", "</tool_call>", "arguments")
LLAMA3 = CallForm("llama3", "<|python_tag|>", "", "parameters", bare=True)
MISTRAL = CallForm("mistral", "[TOOL_CALLS]", "", "arguments", listed=True)
FORMS = {form.name: form for form in (HERMES, LLAMA3, MISTRAL)}


@dataclass(frozen=True)
class ChatFormat:
    """What is known of a model's chats."""

    #: Whether the template takes tools.
    tools: bool = False
    form: CallForm = HERMES
    #: Whether answers may begin with thoughts between `THINK` and `THOUGHT`, and whether that can be switched off.
    thinks: bool = False
    switchable: bool = False
    #: Those marks that decoding would leave out, as special tokens.
    hidden: tuple[str, ...] = ()


def of_template(template: str, special: re.Pattern[str] | None = None) -> ChatFormat:
    """What a chat template (Jinja) says; `special` matches the model's special tokens. A template with tools whose form
    is not known gets the commonest."""
    form = HERMES
    if MISTRAL.mark in template:
        form = MISTRAL
    elif HERMES.mark not in template and ("<|python_tag|>" in template or "<|start_header_id|>" in template):
        form = LLAMA3
    marks = (form.mark, form.close, THINK, THOUGHT)
    return ChatFormat(
        tools=re.search(r"\btools\b", template) is not None,
        form=form,
        thinks=THOUGHT in template or "enable_thinking" in template,
        switchable="enable_thinking" in template,
        hidden=tuple(mark for mark in marks if mark and special is not None and special.fullmatch(mark)),
    )


def call_grammar(form: CallForm, tools: Sequence[Mapping[str, Any]], many: bool) -> Grammar:
    """A grammar for an answer that is nothing but a call of one of these functions (`name`, `parameters`), or several
    with `many`, in the model's own form; arguments follow the parameters' schema."""
    tags = [
        {
            "type": "tag",
            "begin": f'{_opening(form)}{{"name": {json.dumps(tool["name"])}, "{form.arguments}": ',
            "content": {"type": "json_schema", "json_schema": exact(tool["parameters"])},
            "end": "}" + (f"\n{form.close}" if form.close else ""),
        }
        for tool in tools
    ]
    calls: dict[str, Any] = {
        "type": "tags_with_separator",
        "tags": tags,
        "separator": ", " if form.listed else "\n",
        "at_least_one": True,
        "stop_after_first": not many or form.bare,
    }
    if form.listed:
        calls = {"type": "tag", "begin": form.mark + "[", "content": calls, "end": "]"}
    text = json.dumps({"type": "structural_tag", "format": calls}, ensure_ascii=False, separators=(",", ":"))
    return Grammar("structural_tag", text)


def _opening(form: CallForm) -> str:
    return "" if form.listed or form.bare else form.mark + "\n"
