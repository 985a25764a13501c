"""From our sampling names to GenAI's GenerationConfig, and from a task to the tokens that the device is given."""

from __future__ import annotations

import secrets

import numpy as np
import openvino as ov
import openvino_genai as genai

from engines.base import GenerateTask, Sampling

WARM_UP = GenerateTask("warm-up", "Hello", Sampling(max_tokens=2, temperature=0.0, ignore_eos=True))


def to_config(sampling: Sampling, defaults: genai.GenerationConfig, already: int = 0) -> genai.GenerationConfig:
    """GenAI's config for one request; `already` tokens of the completion exist.

    `defaults` are the model's own (end tokens). Stop strings are not passed on: `TextStream` finds them, and
    so cuts the text exactly. A missing seed is drawn here, since GenAI's default is the same for every request.
    """
    config = genai.GenerationConfig()
    config.apply_chat_template = False
    config.set_eos_token_id(defaults.eos_token_id)
    config.stop_token_ids = set(defaults.stop_token_ids) | set(sampling.stop_token_ids)
    config.max_new_tokens = max(1, sampling.max_tokens - already)
    config.min_new_tokens = max(0, sampling.min_tokens - already)
    config.ignore_eos = sampling.ignore_eos
    config.presence_penalty = sampling.presence_penalty
    config.frequency_penalty = sampling.frequency_penalty
    config.repetition_penalty = sampling.repetition_penalty
    config.do_sample = sampling.temperature > 0
    if config.do_sample:
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        config.min_p = sampling.min_p
        config.rng_seed = secrets.randbits(32) if sampling.seed is None else sampling.seed & 0xFFFFFFFF
        if sampling.top_k:
            config.top_k = sampling.top_k
    config.validate()
    return config


def input_ids(tokenizer: genai.Tokenizer, task: GenerateTask) -> list[int]:
    """The prompt's tokens and, for a resumed task, those already generated."""
    encoded = tokenizer.encode(task.prompt, add_special_tokens=task.add_special_tokens)
    return [*encoded.input_ids.data[0].tolist(), *task.resume]


def as_tensor(ids: list[int]) -> ov.Tensor:
    """A batch of one sequence: int64 of shape [1, len(ids)]."""
    return ov.Tensor(np.array([ids], dtype=np.int64))
