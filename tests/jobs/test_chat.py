"""Prompts of chats: tools, thoughts, and how the answer will be read."""

from dataclasses import replace

import pytest

from engines.base import Grammar, Sampling
from engines.chat_format import LLAMA3, ChatFormat
from engines.tokenizer import NO_CONTEXT, FakeTokenizer
from jobs.chat import prompt_of
from jobs.errors import BadPrompt
from jobs.models import OfferedModel
from jobs.reading import Reading
from jobs.request import GenerateRequest, Tools

HELLO = ({"role": "user", "content": "Hello"},)
REQUEST = GenerateRequest("/x", "m", Sampling(5), messages=HELLO)
FUNCTION = {"name": "add", "parameters": {"type": "object"}}
OTHER = {"name": "get_time", "parameters": {"type": "object"}}
TOOLS = Tools(({"type": "function", "function": FUNCTION}, {"type": "function", "function": OTHER}))
FORM = Grammar("regex", "a")


class Shown(FakeTokenizer):
    """Shows what a template is given; with `ending` at the end of each prompt."""

    def __init__(self, ending="", **changes):
        self.chat_format = replace(ChatFormat(tools=True, thinks=True, switchable=True), **changes)
        self._ending = ending

    def render(self, messages, tools=(), context=NO_CONTEXT):
        return f"{len(messages)} {[tool['function']['name'] for tool in tools]} {dict(context)}{self._ending}"


def prompt(request, **changes):
    return prompt_of(request, OfferedModel("m", "llm", Shown(**changes), 8192))


def test_a_prompt_that_is_no_chat_stays_as_it_is():
    plain = prompt(replace(REQUEST, messages=(), prompt="<think>", param="prompt"))
    assert (plain.text, plain.special, plain.reading) == ("<think>", True, Reading())


def test_tools_go_to_the_template_and_are_looked_for_in_the_answer():
    made = prompt(replace(REQUEST, tools=TOOLS))
    assert made.text == "1 ['add', 'get_time'] {}"
    assert made.grammar is None
    assert made.reading == Reading("hermes", ("add", "get_time"), thinks=True)


def test_without_tools_nothing_is_a_call():
    assert prompt(REQUEST).reading == Reading(thinks=True)
    assert prompt(REQUEST, thinks=False).reading == Reading()


def test_a_forced_call_is_made_by_a_grammar_without_thoughts():
    made = prompt(replace(REQUEST, tools=replace(TOOLS, forced=("add",))), form=LLAMA3)
    assert made.text == "1 ['add', 'get_time'] {'enable_thinking': False}"
    assert made.grammar is not None
    assert '"add' in made.grammar.text.replace("\\", "") and "get_time" not in made.grammar.text
    assert (made.param, made.reading) == ("tools", Reading("llama3", ("add", "get_time")))


@pytest.mark.parametrize(
    ("asked", "told", "shows"),
    [(None, {}, True), (True, {"enable_thinking": True}, True), (False, {"enable_thinking": False}, False)],
)
def test_who_asks_for_thoughts_or_none_gets_what_they_ask_for(asked, told, shows):
    made = prompt(replace(REQUEST, thinking=asked))
    assert made.text == f"1 [] {told}"
    assert made.reading == Reading(thinks=True, shows_thoughts=shows)
    assert prompt(replace(REQUEST, thinking=asked), switchable=False).text == "1 [] {}"


def test_thoughts_that_the_prompt_begins_are_read_as_such_or_ended_at_once():
    assert prompt(REQUEST, ending="<think>\n").reading == Reading(thinks=True, opened=True)
    for request in (replace(REQUEST, thinking=False), replace(REQUEST, grammar=FORM)):
        made = prompt(request, ending="<think>\n")
        assert made.text.endswith("<think>\n\n</think>\n\n")
        assert not made.reading.opened


def test_a_form_leaves_no_room_for_thoughts():
    made = prompt(replace(REQUEST, grammar=FORM, grammar_param="format"))
    assert (made.grammar, made.param, made.reading) == (FORM, "format", Reading())
    assert "False" in made.text


def test_marks_that_decoding_leaves_out_are_kept_where_they_are_looked_for():
    assert prompt(replace(REQUEST, tools=TOOLS), hidden=("<tool_call>",)).kept_tokens == ("<tool_call>",)
    assert prompt(REQUEST, hidden=("<tool_call>",), thinks=False).kept_tokens == ()


def test_what_the_model_cannot_do_is_refused():
    with pytest.raises(BadPrompt, match="takes no tools") as refused:
        prompt(replace(REQUEST, tools=TOOLS), tools=False)
    assert refused.value.param == "tools"
    with pytest.raises(BadPrompt, match='"m" does not support thinking') as refused:
        prompt(replace(REQUEST, thinking=True), thinks=False)
    assert refused.value.param == "think"
    prompt(replace(REQUEST, thinking=False), thinks=False)
