"""Grammars, compiled in a real child process for the tiny model's vocabulary."""

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest

from engines.base import Grammar
from engines.errors import GrammarError, GrammarsBusy
from engines.grammar_process import words
from engines.grammars import MOST_WAITING, TOO_MUCH, CompiledGrammars
from tests.engines.test_llm import FOLDER
from tests.support.waiting import until
from tests.support.workers import gone

GOOD = Grammar("json_schema", '{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}')


def nested(depth):
    return '{"type":"object","required":["a"],"properties":{"a":' * depth + '{"type":"string"}' + "}}" * depth


@pytest.fixture(scope="module")
def grammars():
    grammars = CompiledGrammars(Path(FOLDER))
    yield grammars
    pid = grammars.pid
    grammars.close()
    assert pid is None or gone(pid)


@pytest.mark.parametrize(
    "grammar",
    [
        GOOD,
        Grammar("json_schema", '{"type":"object"}'),
        Grammar("json_schema", nested(20)),
        Grammar("regex", r"[0-9]{3}-[a-z]+"),
        Grammar("ebnf", 'root ::= "yes" | "no"'),
    ],
    ids=range(5),
)
def test_a_good_grammar_compiles(grammars, grammar):
    grammars.check(grammar)


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        (Grammar("json_schema", '{"type":"foo"}'), 'Unsupported type "foo"'),
        (Grammar("json_schema", '{"$ref":"#/nope"}'), "Cannot find field nope"),
        (Grammar("json_schema", "false"), "cannot accept any value"),
        (Grammar("json_schema", '{"enum":[]}'), "Expect element"),
        (Grammar("json_schema", '{"type":"integer","minimum":5,"maximum":1}'), "minimum greater than maximum"),
        (Grammar("regex", "[a-z"), "Unclosed '['"),
        (Grammar("ebnf", "root ::= foo"), 'Rule "foo" is not defined'),
        (Grammar("structural_tag", "{"), ""),
    ],
    ids=range(8),
)
def test_a_bad_one_is_refused_with_what_is_wrong(grammars, grammar, said):
    grammars.check(Grammar("regex", f"before {hash(grammar)}"))
    pid = grammars.pid
    with pytest.raises(GrammarError) as refused:
        grammars.check(grammar)
    assert said in str(refused.value)
    assert "/" not in str(refused.value).replace("#/", "").replace(r"\/", "")
    assert grammars.pid == pid, "the child is as it was"


@pytest.mark.parametrize(
    "grammar",
    [
        pytest.param(Grammar("regex", "(" * 20_000 + "a" + ")" * 20_000), id="crashes"),
        pytest.param(Grammar("ebnf", "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000), id="crashes or hangs"),
        pytest.param(Grammar("regex", "((a{1,1000}){1,1000}){1,1000}"), id="fills the memory", marks=pytest.mark.slow),
        pytest.param(Grammar("json_schema", nested(1000)), id="takes a minute", marks=pytest.mark.slow),
    ],
)
def test_what_crashes_hangs_or_fills_the_memory_does_so_in_the_child(grammars, grammar):
    grammars.check(Grammar("regex", f"before {hash(grammar)}"))
    child = grammars.pid
    with pytest.raises(GrammarError, match=TOO_MUCH):
        grammars.check(grammar)
    assert gone(child)
    with pytest.raises(GrammarError, match=TOO_MUCH):
        grammars.check(grammar)
    assert grammars.pid is None, "the verdict is remembered: no further child dies of it"
    grammars.check(Grammar("regex", f"after {hash(grammar)}"))


def test_a_verdict_is_given_twice_and_made_once(grammars):
    grammars.check(GOOD)
    grammars.close()
    grammars.check(GOOD)
    assert grammars.pid is None


def test_when_too_many_wait_one_more_is_sent_away(grammars):
    grammars._turn.acquire()
    try:
        waiting = [
            threading.Thread(target=grammars.check, args=[Grammar("regex", f"waits {n}")]) for n in range(MOST_WAITING)
        ]
        for thread in waiting:
            thread.start()
        until(lambda: grammars._places._value == 0, what="all places taken")
        with pytest.raises(GrammarsBusy):
            grammars.check(Grammar("regex", "one more"))
        grammars.check(GOOD)  # Known already: waits for nobody.
    finally:
        grammars._turn.release()
    for thread in waiting:
        thread.join(30)
    grammars.check(Grammar("regex", "one more"))


def test_a_child_that_gets_no_time_gives_no_verdict(grammars, monkeypatch):
    """A machine too busy for a grammar says nothing of the grammar."""
    monkeypatch.setattr("engines.grammars.COMPILE_S", 0.2)
    monkeypatch.setattr("engines.grammars.ENDING_S", 0.1)
    grammars.check(Grammar("regex", "before the pause"))
    child = grammars.pid
    os.kill(child, signal.SIGSTOP)
    with pytest.raises(GrammarsBusy):
        grammars.check(Grammar("regex", "paused"))
    assert gone(child)
    monkeypatch.undo()
    grammars.check(Grammar("regex", "paused"))


def test_a_child_that_was_killed_is_replaced(grammars):
    grammars.check(Grammar("regex", "before"))
    os.kill(grammars.pid, signal.SIGKILL)
    until(lambda: gone(grammars.pid), what="the child's end")
    with pytest.raises(GrammarError):
        grammars.check(Grammar("regex", "meanwhile"))
    grammars.check(Grammar("regex", "after"))
    assert psutil.pid_exists(grammars.pid)


def test_the_child_ends_with_its_parent():
    grammars = CompiledGrammars(Path(FOLDER))
    grammars.check(GOOD)
    process = psutil.Process(grammars.pid)
    assert grammars._child is not None
    grammars._child._connection.close()  # As the kernel does when the API is killed.
    until(lambda: gone(process.pid), what="the child's end")
    grammars.close()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("[02:31:48] /home/x/regex_converter.cc:97: Regex error at position 5: y", "Regex error at position 5: y"),
        ("Check failed\n[1] /a/b.cc:7: Check failed: (x) is false: Schema is bad", "Schema is bad"),
        ("plain words", "plain words"),
        ("", "it is not valid"),
    ],
)
def test_of_what_went_wrong_only_the_words_are_told(message, said):
    assert words(message) == said
