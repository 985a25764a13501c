"""Reranking on GenAI's TextRerankPipeline: how well each text answers a query, a batch of one task's texts a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import openvino_genai as genai

from engines.base import End, Engine, EngineSpec, LoadProgress, RerankTask, Task, Update
from engines.embed import BATCH_PADDED_TOKENS, DEFAULT_SLOTS, encode_vector
from engines.properties import properties_for


@dataclass
class _Pending:
    task: RerankTask
    #: Positions of the texts that have no score yet, the longest text first.
    left: list[int]


def batch_size(query_tokens: int, lengths: Sequence[int], budget: int) -> int:
    """How many of these texts go into the next batch, at least one. `lengths` are their tokens, the longest first.

    A batch is padded to its longest text, and `budget` holds it. It also has no fewer tokens of texts than of the
    query repeated: OpenVINO's tokenizer puts the query before each text, but has made room for little more than two
    queries and all the texts once (`combine_segments.cpp`), and writes beyond it.
    """
    size = 1
    for texts, text_tokens in enumerate(accumulate(lengths), 1):
        if texts * (query_tokens + lengths[0]) > budget or (texts - 1) * query_tokens > text_tokens:
            break
        size = texts
    return size


class TextReranker(Engine):
    """Scores texts. A batch has one query, so tasks take turns: one of many texts does not hold up the others."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        #: The next to have a turn first.
        self._tasks: dict[str, _Pending] = {}

    def load(self, device: str, progress: LoadProgress) -> int:
        config = genai.TextRerankPipeline.Config()
        config.max_length = self._spec.context_tokens
        # GenAI leaves out what is not among the best; a batch has fewer texts than tokens.
        config.top_n = BATCH_PADDED_TOKENS
        properties = properties_for(self._spec, device)
        self._pipeline = genai.TextRerankPipeline(self._spec.path, device, config, **properties)
        progress("warming up")
        self._pipeline.rerank("warm-up", ["warm-up"])
        return self._spec.slots or DEFAULT_SLOTS

    @property
    def busy(self) -> bool:
        return bool(self._tasks)

    def submit(self, task: Task) -> None:
        assert isinstance(task, RerankTask)
        by_length = sorted(range(len(task.texts)), key=lambda index: -task.token_counts[index])
        self._tasks[task.id] = _Pending(task, by_length)

    def cancel(self, task_id: str) -> None:
        self._tasks.pop(task_id, None)

    def step(self) -> list[Update]:
        """Score a batch of the task whose turn it is. A task without texts ends here: GenAI would make up a result."""
        if not self._tasks:
            return []
        task_id = next(iter(self._tasks))
        pending = self._tasks.pop(task_id)
        scores = self._score_next(pending) if pending.left else ()
        if not pending.left:
            return [Update(task_id, vectors=scores, end=End("stop"))]
        self._tasks[task_id] = pending
        return [Update(task_id, vectors=scores)]

    def _score_next(self, pending: _Pending) -> tuple[tuple[int, str], ...]:
        task = pending.task
        lengths = [task.token_counts[index] for index in pending.left]
        size = batch_size(task.query_tokens, lengths, BATCH_PADDED_TOKENS)
        batch, pending.left = pending.left[:size], pending.left[size:]
        ranked = self._pipeline.rerank(task.query, [task.texts[index] for index in batch])
        return tuple((batch[at], encode_vector([score])) for at, score in ranked)
