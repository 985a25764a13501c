"""The tiny real reranker: every text has one score, whatever the batches, and a cancel waits for one batch."""

import base64
import struct
import subprocess
import sys
from pathlib import Path

import openvino_genai as genai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.base import EngineSpec, RerankTask
from engines.devices import candidates
from engines.rerank import TextReranker, batch_size
from tests.engines.driving import run

FOLDER = str(Path(__file__).parents[1] / "fixtures" / "models" / "tiny-reranker")
TOKENIZER = genai.Tokenizer(FOLDER)
WORDS = ("queue", "worker", "request", "model", "score", "device", "memory", "token")


@pytest.fixture(scope="module")
def reranker():
    engine = TextReranker(EngineSpec("rerank", "tiny", FOLDER, context_tokens=256))
    assert engine.load("CPU", lambda text: None) > 1
    return engine


def words(seed: int, count: int) -> str:
    return " ".join(WORDS[(seed * 7 + n * n) % len(WORDS)] for n in range(count))


def task(task_id: str, *texts: str, query: str = "which device") -> RerankTask:
    return RerankTask(task_id, query, tokens(query), texts, tuple(map(tokens, texts)))


def tokens(text: str) -> int:
    """The fixture's tokenizer splits most of these words."""
    return int(TOKENIZER.encode([text], add_special_tokens=False).input_ids.shape[1])


def scores(got) -> list[float]:
    """By the texts' order."""
    return [struct.unpack("<f", base64.b64decode(vector))[0] for _, vector in sorted(got.vectors.items())]


def test_scores_are_those_of_the_texts_in_their_order_whatever_the_batches(reranker):
    texts = [words(n, 1 + (n * 37) % 90) for n in range(80)]
    got = run(reranker, [task("many", *texts)])["many"]
    assert len(got.updates) > 1, "it fits into one batch: the test shows nothing"
    assert sorted(got.vectors) == list(range(80))
    assert got.end.reason == "stop"
    assert len(set(scores(got))) > 20
    for n in (0, 7, 41, 79):
        [alone] = scores(run(reranker, [task("one", texts[n])])["one"])
        assert alone == pytest.approx(scores(got)[n], abs=1e-3)


def test_a_score_is_between_none_and_all_and_depends_on_the_query(reranker):
    one, other = (scores(run(reranker, [task("t", *WORDS, query=query)])["t"]) for query in ("queue", "memory of"))
    assert all(0 <= score <= 1 for score in one + other)
    assert one != other


def test_two_tasks_take_turns_and_each_has_its_own_query(reranker):
    texts = [words(n, 60) for n in range(60)]
    order = []

    def note(got):
        order.append({name: len(each.vectors) for name, each in got.items()})

    got = run(reranker, [task("long", *texts), task("short", "queue", query="memory")], note)
    assert order[1]["short"] == 1 and order[1]["long"] < 60
    assert scores(got["short"]) == pytest.approx(scores(run(reranker, [task("s", "queue", query="memory")])["s"]))


def test_a_cancelled_task_stops_before_its_next_batch(reranker):
    long = [words(n, 200) for n in range(40)]
    got = run(reranker, [task("gone", *long), task("kept", *long)], lambda got: reranker.cancel("gone"))
    assert got["gone"].end is None and len(got["gone"].vectors) < 40
    assert sorted(got["kept"].vectors) == list(range(40))
    reranker.cancel("unknown")
    assert not reranker.busy and reranker.step() == []


LENGTHS = st.lists(st.integers(0, 300), min_size=1, max_size=60).map(lambda found: sorted(found, reverse=True))


@given(query=st.integers(0, 300), lengths=LENGTHS, budget=st.integers(0, 3000))
def test_a_batch_fits_the_budget_has_room_for_its_queries_and_is_never_empty(query, lengths, budget):
    size = batch_size(query, lengths, budget)
    assert 1 <= size <= len(lengths)
    assert size == 1 or size * (query + lengths[0]) <= budget
    # What OpenVINO's tokenizer makes room for, and what it writes.
    assert size * query + sum(lengths[:size]) <= 2 * (query + sum(lengths[:size]))


def test_long_queries_with_short_texts_leave_the_memory_whole():
    """In one batch they end the process: in a child, so that a test can fail and not all of them."""
    program = f"""
from engines.base import EngineSpec, RerankTask
from engines.rerank import TextReranker
from tests.engines.driving import run
from tests.engines.test_rerank import task
engine = TextReranker(EngineSpec("rerank", "tiny", {FOLDER!r}, context_tokens=256))
engine.load("CPU", lambda text: None)
for words in (1, 2, 3, 5, 9, 20, 60):
    got = run(engine, [task("t", *(["token"] * 30), *(["device memory"] * 30), "", query="which memory " * words)])
    assert len(got["t"].vectors) == 61
print("whole")
"""
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (child.returncode, child.stdout) == (0, "whole\n"), child.stderr


def test_a_task_without_texts_ends_without_a_score(reranker):
    got = run(reranker, [task("none")])["none"]
    assert (got.end.reason, got.vectors) == ("stop", {})


def test_empty_texts_have_scores_too(reranker):
    assert len(scores(run(reranker, [task("t", "", "", "fox", "")])["t"])) == 4


def test_an_npu_is_passed_over():
    tried = candidates("NPU", ("NPU", "CPU"), ("CPU", "GPU"), {})
    assert [c.device for c in tried if not c.skip] == ["CPU"]
    assert "does not run on NPU" in tried[0].skip
