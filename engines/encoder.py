"""A text encoder on a device: from texts to vectors, a batch at a time.

OpenVINO keeps what it compiled for every shape it has seen, about 0.8 MB for a small BERT, and gives none of it back:
a thousand differently shaped batches took MiniLM from 200 to 800 MB. So batches come in few sizes and lengths here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from numpy.typing import NDArray

from engines import tokenizer
from engines.base import EngineSpec
from engines.devices import family
from engines.properties import properties_for

Vectors = NDArray[np.float32]

#: What a BERT's export takes; a model that wants more is left to GenAI's own pipeline.
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
_SHORTEST = 8


def padded_length(tokens: int) -> int:
    """To how many tokens a text of so many is padded: eight steps an octave, so an eighth more at most, beyond 64."""
    step = max(_SHORTEST, (1 << max(1, tokens - 1).bit_length()) // 16)
    return max(1, -(-tokens // step)) * step


def full_size(texts: int) -> int:
    """The largest batch size there is that so many texts fill: 1, 2, 3, 4, 6, 8, 12, 16 …; of 0 texts 0."""
    power = 1 << max(0, texts.bit_length() - 1)
    return power * 3 // 2 if texts >= power * 3 // 2 > 1 else min(power, texts)


class Encoder(ABC):
    """A loaded model. Used by one thread."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Vectors:
        """A vector a text, shape [len(texts), dimensions]; what is over the model's context is cut. Blocks."""


class PaddedEncoder(Encoder):
    """An encoder model run directly, padded to lengths of which there are few."""

    def __init__(self, spec: EngineSpec, model: ov.Model, device: str) -> None:
        self._longest = spec.context_tokens
        self._pooling = spec.pooling
        self._normalize = spec.normalize
        self._names = {port.any_name for port in model.inputs}
        self._tokenizer = genai.Tokenizer(spec.path, **tokenizer.PROPERTIES)
        self._request = ov.Core().compile_model(model, device, properties_for(spec, device)).create_infer_request()

    def encode(self, texts: Sequence[str]) -> Vectors:
        # Several empty texts are one to OpenVINO.
        asked = list(texts) if any(texts) else [""]
        made = self._tokenizer.encode(asked, max_length=self._longest, truncation=True, padding_side="right")
        length = made.input_ids.data.shape[1]
        padding = ((0, 0), (0, max(length, min(padded_length(length), self._longest)) - length))
        ids, mask = np.pad(made.input_ids.data, padding), np.pad(made.attention_mask.data, padding)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._request.infer({name: inputs[name] for name in self._names}, share_inputs=True)[0]
        vectors = pooled(np.asarray(hidden, dtype=np.float32), mask, self._pooling)
        if self._normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors if any(texts) else np.repeat(vectors[:1], len(texts), axis=0)


def pooled(hidden: Vectors, mask: NDArray[np.int64], pooling: str) -> Vectors:
    """One vector a text from one a token, [batch, length, dimensions], as sentence-transformers' Pooling makes it.
    Padding is on the right."""
    if pooling == "cls":
        return hidden[:, 0].copy()
    if pooling == "last_token":
        vectors: Vectors = hidden[np.arange(len(hidden)), mask.sum(axis=1) - 1]
        return vectors
    weights = mask[:, :, None].astype(np.float32)
    mean: Vectors = (hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    return mean


class PipelineEncoder(Encoder):
    """GenAI's own pipeline: for an NPU, whose one shape it compiles in, and for models of other inputs."""

    def __init__(self, spec: EngineSpec, device: str) -> None:
        config = genai.TextEmbeddingPipeline.Config()
        config.pooling_type = getattr(genai.TextEmbeddingPipeline.PoolingType, spec.pooling.upper())
        config.normalize = spec.normalize
        config.max_length = spec.context_tokens
        if family(device) == "NPU":
            config.batch_size = 1
            config.pad_to_max_length = True
        self._pipeline = genai.TextEmbeddingPipeline(spec.path, device, config, **properties_for(spec, device))

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors: Any = self._pipeline.embed_documents(list(texts))
        # Several empty texts are one to OpenVINO, too.
        return np.asarray(vectors if any(texts) else vectors[:1] * len(texts), dtype=np.float32)


def load_encoder(spec: EngineSpec, device: str) -> Encoder:
    """The encoder of a model on a device. Blocks for a second or so; raises whatever OpenVINO raises."""
    if family(device) != "NPU":
        model = ov.Core().read_model(str(Path(spec.path) / "openvino_model.xml"))
        if {port.any_name for port in model.inputs} <= _INPUTS:
            return PaddedEncoder(spec, model, device)
    return PipelineEncoder(spec, device)
