"""What crosses the socket to the engine process arrives as it was sent."""

import json
from dataclasses import asdict
from multiprocessing.connection import Pipe

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import wire
from engines.base import (
    EmbedTask,
    End,
    EngineFacts,
    EngineSpec,
    GenerateTask,
    Grammar,
    RerankTask,
    Sampling,
    Update,
)

TEXT = st.text(max_size=30)
TOKENS = st.lists(st.integers(0, 2**31), max_size=5).map(tuple)
FLOAT = st.floats(-100, 100, allow_nan=False)
SAMPLING = st.builds(
    Sampling,
    max_tokens=st.integers(1, 10_000),
    temperature=FLOAT,
    seed=st.none() | st.integers(0, 2**63),
    stop=st.lists(TEXT, max_size=4).map(tuple),
    stop_token_ids=TOKENS,
    min_tokens=st.integers(0, 100),
    ignore_eos=st.booleans(),
)
TASKS = st.one_of(
    st.builds(
        GenerateTask,
        id=TEXT,
        prompt=TEXT,
        sampling=SAMPLING,
        add_special_tokens=st.booleans(),
        resume=TOKENS,
        grammar=st.none() | st.builds(Grammar, kind=st.sampled_from(["json_schema", "regex"]), text=TEXT),
        kept_tokens=st.lists(TEXT, max_size=2).map(tuple),
    ),
    st.builds(EmbedTask, id=TEXT, texts=st.lists(TEXT, max_size=4).map(tuple), token_counts=TOKENS),
    st.builds(
        RerankTask,
        id=TEXT,
        query=TEXT,
        query_tokens=st.integers(0, 99),
        texts=st.lists(TEXT, max_size=4).map(tuple),
        token_counts=TOKENS,
    ),
)
ENDS = st.builds(End, reason=st.sampled_from(["stop", "length", "cancelled", "failed"]), code=TEXT, message=TEXT)
UPDATES = st.builds(
    Update,
    id=TEXT,
    text=TEXT,
    tokens=TOKENS,
    vectors=st.lists(st.tuples(st.integers(0, 99), TEXT), max_size=3).map(tuple),
    end=st.none() | ENDS,
)


def through_json(body):
    return json.loads(json.dumps(body))


@given(task=TASKS)
def test_a_task_arrives_as_it_was(task):
    assert wire.task_from(through_json(wire.task_to(task))) == task


@given(updates=st.lists(UPDATES, max_size=4))
def test_a_steps_updates_arrive_as_they_were(updates):
    assert wire.updates_from(through_json(wire.updates_to(updates))) == updates


@given(hints=st.lists(TEXT, max_size=3).map(tuple), properties=st.dictionaries(TEXT, TEXT | FLOAT), ms=FLOAT)
def test_a_spec_arrives_as_it_was(hints, properties, ms):
    spec = EngineSpec("llm", "m", "/p", device_hints=hints, properties=properties, fake_token_ms=ms)
    assert wire.spec_from(through_json(asdict(spec))) == spec


def test_facts_arrive_as_they_were():
    facts = EngineFacts("llm", "m", "NPU", 100, 80, 1, 1.25, ("no GPU", "x"))
    assert wire.facts_from(through_json(asdict(facts))) == facts


def test_messages_keep_their_order_and_the_end_is_told():
    ours, theirs = Pipe()
    with ours, theirs:
        for number in range(3):
            wire.send(ours, "submit", {"n": number, "text": "\u2028🎉\ud800"})
        assert [wire.receive(theirs) for _ in range(3)] == [
            ("submit", {"n": n, "text": "\u2028🎉\ud800"}) for n in range(3)
        ]
        ours.close()
        with pytest.raises(EOFError):
            wire.receive(theirs)
