"""Turns a BERT encoder in safetensors into OpenVINO IR, without torch: `python -m engines.models.bert SOURCE
TARGET`.

For all-MiniLM, BGE, E5 and GTE, which all have the shape of Devlin et al. 2018 as transformers'
modeling_bert.py computes it. The graph has the inputs and the output of an optimum-intel export: input_ids,
attention_mask and token_type_ids (batch × length, i64) to last_hidden_state (batch × length × hidden).
Pooling and normalising are TextEmbeddingPipeline's.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

# The lowest fp16 number: what is masked weighs nothing, on an NPU too, and never becomes NaN.
_MASKED = -65504.0
_ACTIVATIONS = {"gelu": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}

Array = NDArray[Any]


@dataclass(frozen=True)
class BertConfig:
    layers: int
    heads: int
    hidden: int
    epsilon: float
    activation: str

    @classmethod
    def read(cls, path: Path) -> "BertConfig":
        """Raises ValueError for a variant whose arithmetic differs from this graph's."""
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.get("position_embedding_type", "absolute") != "absolute":
            raise ValueError(
                f"position embeddings of type {data['position_embedding_type']!r} are not supported"
            )
        if data["hidden_act"] not in (*_ACTIVATIONS, "relu"):
            raise ValueError(f"the activation {data['hidden_act']!r} is not supported")
        return cls(
            layers=data["num_hidden_layers"],
            heads=data["num_attention_heads"],
            hidden=data["hidden_size"],
            epsilon=data["layer_norm_eps"],
            activation=data["hidden_act"],
        )


class _Graph:
    """The encoder's layers over its named weights; a node is what openvino.opset13 returns."""

    def __init__(self, config: BertConfig, weights: dict[str, Array]) -> None:
        self._config = config
        # A checkpoint of a model with a head has its encoder under `bert.`.
        prefix = "" if "embeddings.word_embeddings.weight" in weights else "bert."
        self._weights = {
            name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)
        }

    def build(self) -> ov.Model:
        ids, mask, types = (
            op.parameter([-1, -1], np.int64, name=name)
            for name in ("input_ids", "attention_mask", "token_type_ids")
        )
        for node in (ids, mask, types):
            node.output(0).get_tensor().set_names({node.friendly_name})
        bias = self._attention_bias(mask)
        state = self._embeddings(ids, types)
        for layer in range(self._config.layers):
            state = self._layer(state, bias, f"encoder.layer.{layer}")
        result = op.result(state, name="last_hidden_state")
        result.output(0).get_tensor().set_names({"last_hidden_state"})
        return ov.Model([result], [ids, mask, types], "bert")

    def _weight(self, name: str) -> Any:
        # Checkpoints converted from TensorFlow keep its names for the two halves of a layer norm.
        for spelling in (
            name,
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"),
        ):
            if spelling in self._weights:
                return op.constant(self._weights[spelling].astype(np.float32))
        raise ValueError(f"the weights have no {name}")

    def _embeddings(self, ids: Any, types: Any) -> Any:
        axis = op.constant(np.int64(0))
        length = op.gather(op.shape_of(ids), op.constant(np.int64(1)), axis)
        positions = op.range(op.constant(np.int64(0)), length, op.constant(np.int64(1)), "i64")
        words = op.gather(self._weight("embeddings.word_embeddings.weight"), ids, axis)
        segments = op.gather(self._weight("embeddings.token_type_embeddings.weight"), types, axis)
        places = op.gather(self._weight("embeddings.position_embeddings.weight"), positions, axis)
        return self._norm(op.add(op.add(words, segments), places), "embeddings.LayerNorm")

    def _attention_bias(self, mask: Any) -> Any:
        """0 where a token may be looked at and _MASKED where not, as batch × 1 × 1 × length."""
        hidden = op.subtract(op.constant(np.float32(1)), op.convert(mask, "f32"))
        return op.unsqueeze(op.multiply(hidden, op.constant(np.float32(_MASKED))), op.constant([1, 2]))

    def _layer(self, state: Any, bias: Any, name: str) -> Any:
        query, key, value = (
            self._split_heads(self._linear(state, f"{name}.attention.self.{part}"))
            for part in ("query", "key", "value")
        )
        looked = op.scaled_dot_product_attention(query, key, value, bias)
        joined = op.reshape(
            op.transpose(looked, op.constant([0, 2, 1, 3])),
            op.constant([0, 0, self._config.hidden]),
            special_zero=True,
        )
        attended = self._linear(joined, f"{name}.attention.output.dense")
        state = self._norm(op.add(attended, state), f"{name}.attention.output.LayerNorm")
        inner = self._activation(self._linear(state, f"{name}.intermediate.dense"))
        return self._norm(
            op.add(self._linear(inner, f"{name}.output.dense"), state), f"{name}.output.LayerNorm"
        )

    def _split_heads(self, state: Any) -> Any:
        heads = self._config.heads
        shape = op.constant([0, 0, heads, self._config.hidden // heads])
        return op.transpose(op.reshape(state, shape, special_zero=True), op.constant([0, 2, 1, 3]))

    def _linear(self, state: Any, name: str) -> Any:
        product = op.matmul(state, self._weight(f"{name}.weight"), transpose_a=False, transpose_b=True)
        return op.add(product, self._weight(f"{name}.bias"))

    def _norm(self, state: Any, name: str) -> Any:
        normal = op.mvn(state, op.constant([-1]), True, self._config.epsilon, "inside_sqrt")
        return op.add(op.multiply(normal, self._weight(f"{name}.weight")), self._weight(f"{name}.bias"))

    def _activation(self, state: Any) -> Any:
        if self._config.activation == "relu":
            return op.relu(state)
        return op.gelu(state, _ACTIVATIONS[self._config.activation])


def build(config: BertConfig, weights: dict[str, Array]) -> ov.Model:
    """The encoder in f32; shapes are dynamic. Raises ValueError if a weight is missing."""
    return _Graph(config, weights).build()


def convert(source: Path, target: Path) -> None:
    """Writes the IR (weights in fp16: half the disk, cosine above 0.9999), the tokenizer, the small files."""
    from openvino_tokenizers import convert_tokenizer
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer

    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors"))
    model = build(BertConfig.read(source / "config.json"), load_file(source / "model.safetensors"))
    ov.save_model(model, target / "openvino_model.xml", compress_to_fp16=True)
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    ov.save_model(convert_tokenizer(tokenizer), target / "openvino_tokenizer.xml")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
