"""Embeddings on a real tiny model: every text its own vector, however the batches fall."""

import base64
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.base import EmbedTask, EngineSpec
from engines.embed import BATCH_PADDED_TOKENS, TextEmbedder, encode_vector, next_batch
from engines.encoder import PipelineEncoder, full_size, load_encoder, padded_length
from tests.engines.driving import run


@pytest.fixture(scope="module")
def folder():
    return str(Path(__file__).parents[1] / "fixtures" / "models" / "tiny-embedder")


@pytest.fixture(scope="module")
def embedder(folder):
    engine = TextEmbedder(EngineSpec("embed", "tiny", folder, context_tokens=256))
    assert engine.load("CPU", lambda text: None) == 8
    return engine


def task(task_id, *texts):
    return EmbedTask(task_id, texts, tuple(len(text.split()) + 2 for text in texts))


def vector(encoded):
    return np.frombuffer(base64.b64decode(encoded), "<f4")


def words(number, count):
    return " ".join(["fox", "dog", "queue", "token", "model"][(number + i) % 5] for i in range(count))


@given(lengths=st.lists(st.integers(0, 600), min_size=1, max_size=40), budget=st.integers(0, 3000))
def test_a_batch_has_the_oldest_fits_the_budget_and_is_of_a_size_there_is(lengths, budget):
    batch = next_batch(lengths, budget)
    assert full_size(len(batch)) == len(batch)
    assert 0 in batch
    assert len(set(batch)) == len(batch)
    longest = max(max(1, lengths[i]) for i in batch)
    assert len(batch) == 1 or len(batch) * longest <= budget
    # Neighbours in length: nobody between the shortest and the longest was left out.
    inside = sorted(lengths[i] for i in batch)
    assert sum(inside[0] < n < inside[-1] for n in lengths) == sum(inside[0] < n < inside[-1] for n in inside)


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_every_text_is_reached_and_the_oldest_first(lengths):
    left = list(enumerate(lengths))
    rounds = 0
    while left:
        oldest = left[0][0]
        chosen = set(next_batch([length for _, length in left], 512))
        assert oldest in {left[c][0] for c in chosen}
        left = [entry for at, entry in enumerate(left) if at not in chosen]
        rounds += 1
    assert rounds <= len(lengths)


def test_vectors_come_in_the_order_of_the_texts_whatever_the_batches(embedder):
    texts = [words(n, 1 + (n * 37) % 90) for n in range(80)]
    got = run(embedder, [task("many", *texts)])["many"]
    assert len(got.updates) > 1, "it fits into one batch: the test shows nothing"
    assert sorted(got.vectors) == list(range(80))
    assert got.end is not None and got.end.reason == "stop"
    for n in (0, 7, 41, 79):
        alone = run(embedder, [task("one", texts[n])])["one"]
        np.testing.assert_allclose(vector(got.vectors[n]), vector(alone.vectors[0]), atol=2e-2)
    assert not np.allclose(vector(got.vectors[0]), vector(got.vectors[7]), atol=5e-2)


def test_tasks_share_batches_and_each_gets_its_own(embedder):
    tasks = [task(f"t{n}", *(words(n + i, 3 + i) for i in range(n % 4 + 1))) for n in range(20)]
    steps = 0

    def count(got):
        nonlocal steps
        steps += 1

    got = run(embedder, tasks, count)
    assert steps <= 3
    for each in tasks:
        assert sorted(got[each.id].vectors) == list(range(len(each.texts)))
    same = [got["t0"].vectors[0], got["t5"].vectors[0]]
    np.testing.assert_allclose(vector(same[0]), vector(same[1]), atol=2e-2)


def test_vectors_are_normalised_float32(embedder):
    made = vector(run(embedder, [task("t", "the fox")])["t"].vectors[0])
    assert (made.dtype, made.shape) == (np.float32, (32,))
    assert np.linalg.norm(made) == pytest.approx(1, abs=1e-3)


def test_a_task_without_texts_ends_without_touching_the_device(embedder):
    assert run(embedder, [EmbedTask("none", (), ())])["none"].end is not None


def test_empty_texts_have_vectors_too(embedder):
    """Given only empty texts, OpenVINO makes one vector for all of them."""
    got = run(embedder, [task("a", "", "", ""), task("b", "", "fox"), task("c", " ", "\n")])
    assert [sorted(got[name].vectors) for name in "abc"] == [[0, 1, 2], [0, 1], [0, 1]]
    alone = run(embedder, [task("d", "", "")])["d"]
    assert alone.vectors[0] == alone.vectors[1]


def test_a_cancelled_task_leaves_the_others_alone(embedder):
    long = [words(n, 200) for n in range(40)]

    def cancel(got):
        embedder.cancel("gone")

    got = run(embedder, [task("gone", *long), task("kept", *long)], cancel)
    assert got["gone"].end is None
    assert len(got["gone"].vectors) < 40
    assert sorted(got["kept"].vectors) == list(range(40))
    embedder.cancel("unknown")
    assert not embedder.busy


def test_no_batch_is_over_the_budget(embedder, monkeypatch):
    seen = []

    def watching(texts, encode=embedder._encoder.encode):
        seen.append(len(texts) * padded_length(max(len(text.split()) + 2 for text in texts)))
        return encode(texts)

    monkeypatch.setattr(embedder._encoder, "encode", watching)
    run(embedder, [task("t", *(words(n, 1 + (n * 53) % 200) for n in range(100)))])
    assert max(seen) <= BATCH_PADDED_TOKENS
    assert len(seen) < 30


def test_on_an_npu_a_text_goes_alone(folder):
    engine = TextEmbedder(
        EngineSpec(
            "embed", "tiny", folder, context_tokens=64, properties={"NPU_USE_NPUW": "YES", "NPUW_DEVICES": "CPU"}
        )
    )
    engine.load("NPU", lambda text: None)
    got = run(engine, [task("a", "the fox", "dog"), task("b", "the fox")])
    assert len(got["a"].updates) == 2
    np.testing.assert_allclose(vector(got["a"].vectors[0]), vector(got["b"].vectors[0]), atol=1e-4)


def test_a_vector_is_encoded_as_openai_has_it():
    assert encode_vector([1.0, -2.5]) == base64.b64encode(bytes.fromhex("0000803f000020c0")).decode()


@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token"])
def test_vectors_are_those_of_genais_own_pipeline(folder, pooling):
    spec = EngineSpec("embed", "tiny", folder, context_tokens=64, pooling=pooling, reproducible=True)
    texts = [words(n, 1 + 7 * n) for n in range(12)] + ["", "é ü 漢字"]
    ours, genais = load_encoder(spec, "CPU").encode(texts), PipelineEncoder(spec, "CPU").encode(texts)
    np.testing.assert_allclose(ours, genais, atol=1e-4)


@given(st.integers(1, 10_000))
def test_a_text_is_padded_by_an_eighth_at_most_and_lengths_are_few(tokens):
    padded = padded_length(tokens)
    assert tokens <= padded <= max(8 * -(-tokens // 8), tokens * 9 / 8 + 1)
    assert padded_length(padded) == padded


def test_there_are_few_shapes():
    assert len({padded_length(n) for n in range(1, 257)}) <= 24
    assert sorted({full_size(n) for n in range(1, 65)}) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
