import json

import pytest

from engines.errors import UnsupportedModel
from engines.models.describe import describe, guess_kind, short_count
from tests.models.tiny_models import LLM_CONFIG, gguf, ir, write

IR = {"openvino_model.xml", "openvino_tokenizer.xml", "config.json"}


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("LlamaForCausalLM", "llm"),
        ("GPT2LMHeadModel", "llm"),
        ("BertModel", "embed"),
        ("XLMRobertaModel", "embed"),
        ("XLMRobertaForSequenceClassification", "rerank"),
    ],
)
def test_the_architecture_tells_the_kind(architecture, kind):
    assert guess_kind(IR, {"architectures": [architecture]}, False, "x") == kind


def test_a_tuned_language_model_can_be_an_embedder():
    config = {"architectures": ["Qwen3ForCausalLM"]}
    assert guess_kind(IR, config, False, "OpenVINO/Qwen3-Embedding-0.6B-int8-ov") == "embed"
    assert guess_kind(IR, config, True, "x") == "embed"


def test_a_vision_model_is_known_by_its_language_model():
    assert guess_kind({"openvino_language_model.xml"}, {}, False, "x") == "vision"


@pytest.mark.parametrize("config", [{}, {"architectures": []}, {"architectures": "x"}])
def test_a_model_that_says_nothing_asks_for_its_kind(tmp_path, config):
    write(tmp_path, ir(config))
    with pytest.raises(UnsupportedModel, match="--kind"):
        describe(tmp_path, "x")
    assert describe(tmp_path, "x", "rerank").devices == ("CPU", "GPU")


def test_a_vision_models_context_is_its_language_models(tmp_path):
    config = {"model_type": "llava", "text_config": {"model_type": "llama", "max_position_embeddings": 4096}}
    write(tmp_path, ir(config, stem="openvino_language_model"))
    facts = describe(tmp_path, "tiny-llava")
    assert (facts.kind, facts.context_tokens, facts.family) == ("vision", 4096, "llama")


def test_some_of_robertas_positions_hold_no_token(tmp_path):
    config = {
        "architectures": ["XLMRobertaForSequenceClassification"],
        "model_type": "xlm-roberta",
        "max_position_embeddings": 514,
        "pad_token_id": 1,
    }
    write(tmp_path, ir(config))
    facts = describe(tmp_path, "bge-reranker")
    assert (facts.kind, facts.context_tokens, facts.devices) == ("rerank", 512, ("CPU", "GPU"))


@pytest.mark.parametrize(
    ("files", "hint", "pooling"),
    [
        ({"1_Pooling/config.json": {"pooling_mode_cls_token": True}}, "x", "cls"),
        ({"1_Pooling/config.json": {"pooling_mode_mean_tokens": True}}, "bge", "mean"),
        ({"1_Pooling/config.json": {"pooling_mode_lasttoken": True}}, "x", "last_token"),
        ({}, "OpenVINO/bge-base-en-v1.5-int8-ov", "cls"),
        ({}, "intfloat/e5-small-v2", "mean"),
    ],
)
def test_the_pooling_is_the_authors(tmp_path, files, hint, pooling):
    config = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 384}
    write(tmp_path, ir(config) | {name: json.dumps(data).encode() for name, data in files.items()})
    embedding = describe(tmp_path, hint).embedding
    assert embedding is not None
    assert (embedding.pooling, embedding.dimensions) == (pooling, 384)


def test_prompts_of_sentence_transformers_become_instructions(tmp_path):
    config = {"architectures": ["BertModel"], "max_position_embeddings": 512}
    write(
        tmp_path,
        ir(config)
        | {
            "config_sentence_transformers.json": b'{"prompts": {"query": "query: ", "passage": "passage: "}}',
            "sentence_bert_config.json": b'{"max_seq_length": 256}',
        },
    )
    facts = describe(tmp_path, "e5")
    assert facts.embedding is not None
    assert facts.embedding.query_instruction == "query: "
    assert facts.embedding.document_instruction == "passage: "
    assert facts.context_tokens == 256


def test_what_cannot_run_is_refused_with_the_way_out(tmp_path):
    write(
        tmp_path / "torch",
        {"model.safetensors": b"", "config.json": b'{"architectures": ["LlamaForCausalLM"]}'},
    )
    with pytest.raises(UnsupportedModel, match="optimum-intel"):
        describe(tmp_path / "torch", "x")
    files = ir(LLM_CONFIG)
    del files["openvino_tokenizer.xml"]
    with pytest.raises(UnsupportedModel, match="convert_tokenizer"):
        describe(write(tmp_path / "bare", files), "x")
    write(tmp_path / "two", {"a.gguf": gguf(), "b.gguf": gguf()})
    with pytest.raises(UnsupportedModel, match=r"name one of a\.gguf, b\.gguf"):
        describe(tmp_path / "two", "x")
    write(tmp_path / "gguf", {"a.gguf": gguf()})
    with pytest.raises(UnsupportedModel, match="only be an llm"):
        describe(tmp_path / "gguf", "x", "embed")


def test_counts_are_short():
    assert [short_count(n) for n in (0, 134_500_000, 1_100_000_000)] == ["", "134M", "1.1B"]
