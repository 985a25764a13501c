"""Smallest files that a pull takes for models. Only the BERT can be run."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from engines.models.manifest import Manifest, ModelFile

#: The words of the tiny BERT's tokenizer, after the special ones.
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "kitten", "stock", "market", "the", "##s"]
HIDDEN, LAYERS, HEADS, INNER, POSITIONS = 32, 2, 4, 64, 64


def gguf(padding_bytes: int = 64, context_tokens: int = 2048) -> bytes:
    """A well-formed GGUF of one tensor; its data is `padding_bytes` long and random."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("tokenizer.ggml.scores") + struct.pack("<IIQ2f", 9, 6, 2, 0.5, 0.5),
        text("llama.context_length") + struct.pack("<II", 4, context_tokens),
        text("general.file_type") + struct.pack("<II", 4, 3),
    ]
    tensor = text("output.weight") + struct.pack("<IQQIQ", 2, 1000, 135_000, 3, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    return head + np.random.default_rng(0).bytes(padding_bytes)


def ir(
    config: Mapping[str, object], weights_bytes: int = 64, stem: str = "openvino_model"
) -> dict[str, bytes]:
    """The files of an IR folder in name only."""
    weights = np.random.default_rng(1).bytes(weights_bytes)
    return {
        f"{stem}.xml": b"<net/>",
        f"{stem}.bin": weights,
        "openvino_tokenizer.xml": b"<net/>",
        "openvino_tokenizer.bin": b"tokens",
        "config.json": json.dumps(config).encode(),
    }


LLM_CONFIG: dict[str, object] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "max_position_embeddings": 40960,
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def bert_weights() -> dict[str, np.ndarray]:
    """Random, but of the size that trained ones have, so that no layer saturates."""
    random = np.random.default_rng(7)
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORDS), HIDDEN),
        "embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
        "embeddings.LayerNorm.bias": (HIDDEN,),
    }
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        for part, out, into in (
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", INNER, HIDDEN),
            ("output.dense", HIDDEN, INNER),
        ):
            shapes[f"{name}.{part}.weight"] = (out, into)
            shapes[f"{name}.{part}.bias"] = (out,)
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{name}.{norm}.weight"] = (HIDDEN,)
            shapes[f"{name}.{norm}.bias"] = (HIDDEN,)
    weights = {}
    for name, shape in shapes.items():
        centre = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        weights[name] = (centre + random.normal(0, 0.2, shape)).astype(np.float32)
    return weights


def bert_files(weights: dict[str, np.ndarray] | None = None) -> dict[str, bytes]:
    """A Sentence Transformers folder as all-MiniLM's: safetensors, vocab.txt, mean pooling."""
    from safetensors.numpy import save

    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": POSITIONS,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "type_vocab_size": 2,
        "vocab_size": len(WORDS),
    }
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": save(bert_weights() if weights is None else weights),
        "vocab.txt": "\n".join(WORDS).encode(),
        "tokenizer_config.json": json.dumps(
            {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": POSITIONS}
        ).encode(),
        "modules.json": b"[]",
        "1_Pooling/config.json": json.dumps({"pooling_mode_mean_tokens": True}).encode(),
    }


def manifest(name: str = "tiny", files: tuple[ModelFile, ...] | None = None) -> Manifest:
    return Manifest(
        name=name,
        kind="llm",
        source=f"dir:/models/{name}",
        format="ir",
        files=files or (ModelFile("openvino_model.xml", "0" * 64, 6),),
        context_tokens=2048,
        devices=("CPU", "GPU", "NPU"),
        created_s=1_700_000_000,
    )
