"""From our sampling names to GenAI's GenerationConfig, and from a task to the tokens that the device is given."""

from __future__ import annotations

import secrets

import numpy as np
import openvino as ov
import openvino_genai as genai

from engines import special_tokens
from engines.base import GenerateTask, Grammar, GrammarKind, Sampling
from engines.errors import PromptError

WARM_UP = GenerateTask("warm-up", "Hello", Sampling(max_tokens=2, temperature=0.0, ignore_eos=True))

LEAST_TEMPERATURE = 1e-3
LEAST_TOP_P = 1e-6
#: GenAI takes less than 1 only.
MOST_MIN_P = 0.999

#: GenAI's names of what a grammar is written in.
_GRAMMARS: dict[GrammarKind, str] = {
    "json_schema": "json_schema",
    "regex": "regex",
    "ebnf": "grammar",
    "structural_tag": "structural_tags_config",
}


def to_config(
    sampling: Sampling, defaults: genai.GenerationConfig, already: int = 0, grammar: Grammar | None = None
) -> genai.GenerationConfig:
    """GenAI's config for one request; `already` tokens of the completion exist.

    `defaults` are the model's own (end tokens). Stop strings are not passed on: `TextStream` finds them, and
    so cuts the text exactly. A missing seed is drawn here, since GenAI's default is the same for every request.
    Under a `grammar` it alone says where the answer ends: behind that end GenAI would go on without it.
    """
    config = genai.GenerationConfig()
    config.apply_chat_template = False
    config.set_eos_token_id(defaults.eos_token_id)
    config.stop_token_ids = set(defaults.stop_token_ids) | set(sampling.stop_token_ids)
    config.max_new_tokens = max(1, sampling.max_tokens - already)
    config.min_new_tokens = min(max(0, sampling.min_tokens - already), config.max_new_tokens)
    config.ignore_eos = sampling.ignore_eos
    config.presence_penalty = sampling.presence_penalty
    config.frequency_penalty = sampling.frequency_penalty
    config.repetition_penalty = sampling.repetition_penalty
    # At the limit of either, sampling is greedy; GenAI refuses 0 and is not exact near it.
    config.do_sample = sampling.temperature >= LEAST_TEMPERATURE and sampling.top_p >= LEAST_TOP_P
    if config.do_sample:
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        config.min_p = min(sampling.min_p, MOST_MIN_P)
        config.rng_seed = secrets.randbits(32) if sampling.seed is None else sampling.seed & 0xFFFFFFFF
        if sampling.top_k:
            config.top_k = sampling.top_k
    if grammar is not None:
        config.ignore_eos, config.min_new_tokens = False, 0
        config.structured_output_config = structured(grammar)
    config.validate()
    return config


def structured(grammar: Grammar) -> genai.StructuredOutputConfig:
    """A grammar as GenAI takes it; it is compiled only in the first step that uses it."""
    return genai.StructuredOutputConfig(**{_GRAMMARS[grammar.kind]: grammar.text})


def input_ids(tokenizer: genai.Tokenizer, task: GenerateTask, limit: int) -> list[int]:
    """The prompt's tokens and, for a resumed task, those already generated: fewer than `limit`, else `PromptError`.

    The prompt was counted before it was queued; this holds for long ones, where that count is off by a few.
    """
    prompt = list(task.prompt_ids)
    if not prompt:
        prompt = special_tokens.encode(tokenizer, task.prompt, task.add_special_tokens)
    ids = [*prompt, *task.resume]
    if len(ids) >= limit and task.resume:
        raise PromptError(f"The answer cannot be continued here behind {len(ids)} tokens; {limit - 1} is the most.")
    if len(ids) >= limit:
        raise PromptError(f"The prompt has {len(ids)} tokens; the model takes fewer than {limit}.")
    return ids


def as_tensor(ids: list[int]) -> ov.Tensor:
    """A batch of one sequence: int64 of shape [1, len(ids)]."""
    return ov.Tensor(np.array([ids], dtype=np.int64))
