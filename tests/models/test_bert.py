"""The converter against a second, plain writing of the same arithmetic (transformers' modeling_bert.py)."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai
import pytest

from engines.errors import ConversionFailed
from engines.models import convert
from engines.models.bert import BertConfig, build
from engines.models.pull import pull
from tests.models.tiny_models import HEADS, HIDDEN, LAYERS, POSITIONS, WORDS, bert_files, bert_weights, write

Array = np.ndarray[Any, Any]
F32 = {"INFERENCE_PRECISION_HINT": "f32"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("bert") / "tiny-bert-1m", bert_files())


@pytest.fixture(scope="module")
def converted(source, tmp_path_factory):
    target = tmp_path_factory.mktemp("ir") / "tiny"
    convert.convert_bert(source, target)
    return target


def reference(weights: dict[str, Array], ids: Array, mask: Array, types: Array) -> Array:
    """BERT's forward pass, one text and one head at a time."""

    def linear(x: Array, name: str) -> Array:
        product: Array = x @ weights[f"{name}.weight"].T
        return product + weights[f"{name}.bias"]

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    gelu = np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))))
    states = []
    for tokens, visible, segments in zip(ids, mask, types, strict=True):
        x = weights["embeddings.word_embeddings.weight"][tokens]
        x = x + weights["embeddings.position_embeddings.weight"][: len(tokens)]
        x = norm(x + weights["embeddings.token_type_embeddings.weight"][segments], "embeddings.LayerNorm")
        for layer in range(LAYERS):
            name = f"encoder.layer.{layer}"
            parts = (linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
            query, key, value = (np.split(part, HEADS, axis=-1) for part in parts)
            heads = []
            for head in range(HEADS):
                scores = query[head] @ key[head].T / math.sqrt(HIDDEN // HEADS)
                scores[:, visible == 0] = -np.inf
                shares = np.exp(scores - scores.max(-1, keepdims=True))
                heads.append(shares / shares.sum(-1, keepdims=True) @ value[head])
            attended = linear(np.concatenate(heads, -1), f"{name}.attention.output.dense")
            x = norm(attended + x, f"{name}.attention.output.LayerNorm")
            inner = gelu(linear(x, f"{name}.intermediate.dense"))
            x = norm(linear(inner, f"{name}.output.dense") + x, f"{name}.output.LayerNorm")
        states.append(x)
    return np.stack(states)


def batch() -> tuple[Array, Array, Array]:
    random = np.random.default_rng(3)
    ids = random.integers(0, len(WORDS), (3, 12))
    mask = (np.arange(12) < [[12], [7], [1]]).astype(np.int64)
    return ids, mask, random.integers(0, 2, (3, 12))


def run(model: ov.Model | Path, ids: Array, mask: Array, types: Array) -> Array:
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    state: Array = ov.Core().compile_model(model, "CPU", F32)(inputs)["last_hidden_state"]
    return state


def test_the_graph_computes_what_bert_computes(source):
    ids, mask, types = batch()
    model = build(BertConfig.read(source / "config.json"), bert_weights())
    seen = mask == 1
    np.testing.assert_allclose(
        run(model, ids, mask, types)[seen], reference(bert_weights(), ids, mask, types)[seen], atol=2e-4
    )


def test_the_spellings_of_other_checkpoints_give_the_same_graph(source):
    weights = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"): value
        for name, value in bert_weights().items()
    }
    config = BertConfig.read(source / "config.json")
    inputs = batch()
    weights["cls.predictions.bias"] = np.zeros(3, np.float32)
    same = run(build(config, weights), *inputs)
    np.testing.assert_array_equal(same, run(build(config, bert_weights()), *inputs))


def test_weights_on_disk_are_halves_and_lose_next_to_nothing(converted):
    ids, mask, types = batch()
    got = run(converted / "openvino_model.xml", ids, mask, types)[mask == 1]
    wanted = reference(bert_weights(), ids, mask, types)[mask == 1]
    cosine = (got * wanted).sum(-1) / np.linalg.norm(got, axis=-1) / np.linalg.norm(wanted, axis=-1)
    assert cosine.min() > 0.9999
    values = sum(value.size for value in bert_weights().values())
    assert (converted / "openvino_model.bin").stat().st_size < 2 * values + 2000


def test_the_result_runs_in_the_embedding_pipeline(converted):
    pipeline = openvino_genai.TextEmbeddingPipeline(
        str(converted),
        "CPU",
        pooling_type=openvino_genai.TextEmbeddingPipeline.PoolingType.MEAN,
        normalize=True,
        **F32,
    )
    vectors = np.array(pipeline.embed_documents(["the cat", "THE CATS"]))
    ids = np.array([[2, 9, 5, 3, 0], [2, 9, 5, 10, 3]])
    mask = (ids != 0).astype(np.int64)
    states = reference(bert_weights(), ids, mask, np.zeros_like(ids)) * mask[..., None]
    wanted = states.sum(1) / mask.sum(1)[:, None]
    wanted /= np.linalg.norm(wanted, axis=-1, keepdims=True)
    assert (vectors * wanted).sum(-1).min() > 0.9999


def test_a_bert_is_converted_by_the_pull(store, source):
    made = pull(store, f"dir:{source}", name="tiny-bert")
    assert (made.kind, made.format, made.quantization) == ("embed", "ir", "FP16")
    assert made.embedding is not None
    assert made.embedding == replace(made.embedding, pooling="mean", normalize=True, dimensions=HIDDEN)
    assert made.context_tokens == POSITIONS
    names = {file.path for file in made.files}
    assert {"openvino_model.xml", "openvino_tokenizer.xml", "config.json", "1_Pooling/config.json"} <= names
    assert "model.safetensors" not in names


def test_a_conversion_that_fails_says_why_and_publishes_nothing(store, tmp_path):
    weights = bert_weights()
    del weights["encoder.layer.1.output.dense.bias"]
    source = write(tmp_path / "tiny-bert", bert_files(weights))
    with pytest.raises(ConversionFailed, match=r"the weights have no encoder\.layer\.1\.output\.dense\.bias"):
        pull(store, f"dir:{source}")
    assert store.list() == []


def test_a_converter_that_crashes_is_an_error_message(monkeypatch, tmp_path):
    crash = tmp_path / "python"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(crash))
    with pytest.raises(ConversionFailed, match="the converter was ended by SIGSEGV"):
        convert.convert_bert(tmp_path, tmp_path / "out")
