"""What is in the text of an answer, in one piece and cut into any pieces."""

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.answers.reader import ID_LENGTH, Call, Reader, Text, Thought
from jobs.reading import FORMS, Reading, of_answer, to_answer

TOOLS = ("add", "get_time")
CALL = '{"name": "add", "arguments": {"a": 1, "b": "}]\\"</tool_call>"}}'
HERMES = Reading("hermes", TOOLS)
LLAMA3 = Reading("llama3", TOOLS)
MISTRAL = Reading("mistral", TOOLS)
THINKS = Reading(thinks=True)
ALL = [
    Reading(form, TOOLS if form else (), thinks, opened, shows)
    for form in ("", *FORMS)
    for thinks, opened in ((False, False), (True, False), (True, True))
    for shows in (True, False)
]


def read(reading, *pieces):
    """The parts, with neighbours of one kind joined: that is all that may depend on the pieces."""
    reader = Reader(reading, "job_1")
    parts = [part for piece in pieces for part in reader.feed(piece)] + reader.finish()
    joined: list = []
    for part in parts:
        if joined and not isinstance(part, Call) and type(joined[-1]) is type(part):
            joined[-1] = type(part)(joined[-1].text + part.text)
        else:
            joined.append(part)
    return joined


def said(reading, text):
    """The parts in short: text, (thought,), or [name, arguments]."""
    return [
        [p.name, json.loads(p.arguments)] if isinstance(p, Call) else (p.text,) if isinstance(p, Thought) else p.text
        for p in read(reading, text)
    ]


ADDED = ["add", {"a": 1, "b": '}]"</tool_call>'}]
BAD = '<tool_call>{"name": "add", "arguments": {"a": 1}</tool_call>'


@pytest.mark.parametrize(
    ("reading", "text", "expected"),
    [
        (Reading(), f"  <think>x</think> <tool_call>{CALL}</tool_call>", None),
        (HERMES, "Hello <b>\n", None),
        (HERMES, f"<tool_call>\n{CALL}\n</tool_call>", [ADDED]),
        (HERMES, f"I add.\n\n<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call> ", ["I add.", ADDED, ADDED]),
        (HERMES, '<tool_call>{"name": "get_time"}</tool_call>then', [["get_time", {}], "then"]),
        (HERMES, '<tool_call>{"name": "add", "arguments": "{\\"a\\": 2}"}</tool_call>', [["add", {"a": 2}]]),
        (HERMES, f"<tool_call>{CALL}", [ADDED]),
        (HERMES, f"<tool_call>{CALL}</tool_", [ADDED]),
        (HERMES, "a <tool_call>", None),
        (HERMES, "a <tool_ca", None),
        (HERMES, f"a \n{BAD} b", None),
        (HERMES, f"{BAD}\n<tool_call>{CALL}</tool_call>", [BAD, ADDED]),
        (HERMES, f"<tool_call><tool_call>{CALL}</tool_call>", ["<tool_call>", ADDED]),
        (HERMES, "<tool_call>add(1)</tool_call>", None),
        (HERMES, '<tool_call>{"name": "rm"}</tool_call>', None),
        (HERMES, '<tool_call>{"name": ["add"]}</tool_call>', None),
        (HERMES, '<tool_call>{"name": "add", "arguments": [1]}</tool_call>', None),
        (HERMES, '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>', None),
        (HERMES, '<tool_call>{"name": "add", "arguments": {"a": 1e999}}</tool_call>', None),
        (HERMES, '<tool_call>{"name": "add", "arguments": {"a": "\\ud800"}}</tool_call>', None),
        (HERMES, f"<tool_call>{CALL}}}</tool_call>", None),
        (HERMES, "<tool_call>" + "{" * 100, None),
        (HERMES, CALL, None),
        (LLAMA3, '{"name": "add", "parameters": {"a": 1}}', [["add", {"a": 1}]]),
        (LLAMA3, ' \n<|python_tag|>{"name": "add", "parameters": {"a": 1}}', [["add", {"a": 1}]]),
        (LLAMA3, ' {"answer": 42} is it', None),
        (LLAMA3, 'It is {"name": "add", "parameters": {}}', None),
        (LLAMA3, '{"name": "add"', None),
        (MISTRAL, f"[TOOL_CALLS][{CALL}, {CALL}]", [ADDED, ADDED]),
        (MISTRAL, f"[TOOL_CALLS] {CALL}", [ADDED]),
        (MISTRAL, f"Yes. [TOOL_CALLS][{CALL}]", ["Yes.", ADDED]),
        (MISTRAL, f'[TOOL_CALLS][{CALL}, {{"name": "rm"}}]', None),
        (MISTRAL, "[TOOL_CALLS][]", None),
        (THINKS, "<think>\nOne.\n\nTwo.\n</think>\n\nYes.", [("One.\n\nTwo.",), "Yes."]),
        (THINKS, "\n <think></think>\n\nYes. ", ["Yes. "]),
        (THINKS, "<think>One", [("One",)]),
        (THINKS, " Yes <think>no</think>", None),
        (THINKS, "<thin", None),
        (Reading(thinks=True, opened=True), "One.</think>\nYes.", [("One.",), "Yes."]),
        (Reading(thinks=True, opened=True, shows_thoughts=False), "One.</think>\nYes.", ["Yes."]),
        (
            Reading("hermes", TOOLS, thinks=True),
            f"<think><tool_call>{CALL}</think>\n<tool_call>{CALL}</tool_call>",
            [(f"<tool_call>{CALL}",), ADDED],
        ),
    ],
    ids=range(41),
)
def test_what_is_read(reading, text, expected):
    """None for nothing but the text as it is."""
    assert said(reading, text) == ([text] if expected is None else expected)


PIECES = st.sampled_from(
    [
        *("<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>"),
        *("[", "]", ", ", "{", "}", '"', "\\", "\\\\", "\n", " ", "<", "</", "a", "é", ";"),
        *(CALL, f"[{CALL}]", BAD, '{"name": "get_time"}', '{"name": "add", "parameters": {"x": [1, {}]}}'),
    ]
)


@given(st.sampled_from(ALL), st.lists(PIECES, max_size=12).map("".join), st.data())
def test_any_cut_of_the_text_gives_the_same_parts(reading, text, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
    whole = read(reading, text)
    assert read(reading, *pieces) == whole
    assert read(reading, *text) == whole


@given(st.lists(PIECES, max_size=10).map("".join))
def test_without_calls_and_thoughts_no_character_is_lost(text):
    parts = read(HERMES, text)
    if not any(isinstance(part, Call) for part in parts):
        assert "".join(part.text for part in parts) == text


def test_ordinary_text_is_not_held_back():
    reader = Reader(HERMES, "job_1")
    assert reader.feed("Hello") == [Text("Hello")]
    assert reader.feed(" <b>x</b>") == [Text(" <b>x</b>")]
    assert reader.feed(" <to") == []
    assert reader.feed("ol> ") == [Text(" <tool>")]


def test_calls_are_numbered_and_have_the_same_ids_each_time():
    text = f"<tool_call>{CALL}</tool_call>" * 3
    calls = read(HERMES, text)
    assert [call.index for call in calls] == [0, 1, 2]
    assert calls == read(HERMES, *text)
    others = [part for part in Reader(HERMES, "job_2").feed(text) if isinstance(part, Call)]
    ids = {call.id for call in [*calls, *others]}
    assert len(ids) == 6
    assert all(len(each) == ID_LENGTH and each.isalnum() for each in ids)


@pytest.mark.parametrize("filler", ["x", "{", '"', "\\", "<tool_call>", " "])
def test_a_long_text_that_comes_bit_by_bit_costs_little(filler):
    began = time.process_time()
    read(HERMES, '<tool_call>{"name": "', *[filler] * 20_000)
    read(Reading("llama3", TOOLS, thinks=True), *[filler] * 20_000)
    assert time.process_time() - began < 5


@given(st.sampled_from(ALL))
def test_how_it_is_read_is_kept_with_the_job(reading):
    assert of_answer(json.loads(json.dumps(to_answer(reading)))) == reading


def test_plain_text_needs_nothing_kept():
    assert to_answer(Reading()) == {}
