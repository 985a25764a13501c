"""From a request for text to its prompt: the chat template with tools and thoughts, and how the answer is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engines.base import Grammar
from engines.chat_format import THINK, THOUGHT, ChatFormat, call_grammar
from jobs.errors import BadPrompt
from jobs.models import OfferedModel
from jobs.reading import Reading
from jobs.request import GenerateRequest


@dataclass(frozen=True)
class Prompt:
    """A prompt as text; whether the tokenizer adds its own tokens; what the answer must be, and how it is read."""

    text: str
    special: bool
    grammar: Grammar | None
    #: The field that asked for the grammar.
    param: str
    reading: Reading
    kept_tokens: tuple[str, ...] = ()


def prompt_of(request: GenerateRequest, model: OfferedModel) -> Prompt:
    """The prompt of a request. Raises `BadPrompt`, and `PromptError` when the template does not take it."""
    if not request.messages:
        return Prompt(request.prompt, True, request.grammar, request.grammar_param, Reading())
    chat, tools = model.tokenizer.chat_format, request.tools
    if tools.offered and not chat.tools:
        raise BadPrompt(f"The chat template of {model.name} takes no tools.", "tools")
    if request.thinking and not chat.thinks:
        raise BadPrompt(f'"{model.name}" does not support thinking', "think")
    grammar, param = request.grammar, request.grammar_param
    functions = {tool["function"]["name"]: tool["function"] for tool in tools.offered}
    if tools.forced:
        grammar = call_grammar(chat.form, [functions[name] for name in tools.forced], tools.many)
        param = "tools"
    # Thoughts would not follow a grammar, so there are none before what must.
    thinks = chat.thinks and grammar is None and request.thinking is not False
    text = model.tokenizer.render(request.messages, tools.offered, _context(chat, request.thinking, thinks))
    opened = chat.thinks and text.rstrip().endswith(THINK)
    if opened and not thinks:
        text, opened = f"{text.rstrip()}\n\n{THOUGHT}\n\n", False
    reading = Reading(
        form=chat.form.name if functions else "",
        tools=tuple(functions),
        thinks=chat.thinks and grammar is None,
        opened=opened,
        shows_thoughts=request.thinking is not False,
    )
    kept = chat.hidden if reading.form or reading.thinks else ()
    return Prompt(text, False, grammar, param, reading, kept)


def _context(chat: ChatFormat, asked: bool | None, thinks: bool) -> dict[str, Any]:
    """Variables for the template: its own default where nobody has asked for anything."""
    if not chat.switchable or (asked is None and thinks):
        return {}
    return {"enable_thinking": thinks}
