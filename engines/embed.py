"""Embeddings: the texts of all waiting tasks, cut into well-filled batches of few shapes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from engines.base import EmbedTask, End, Engine, EngineSpec, LoadProgress, Task, Update
from engines.devices import family
from engines.encoder import full_size, load_encoder, padded_length

#: Texts are padded to the longest of their batch, so what a batch costs is its padded tokens. The figure is the
#: best of those tried on MiniLM, about four times the throughput of one text at a time.
BATCH_PADDED_TOKENS = 2048
DEFAULT_SLOTS = 8


@dataclass
class _Pending:
    task: EmbedTask
    left: int = 0
    vectors: list[tuple[int, str]] = field(default_factory=list)


def next_batch(lengths: Sequence[int], budget: int) -> list[int]:
    """The indices of the next batch: the oldest text (index 0) and its neighbours in length, while `budget`
    padded tokens hold them, and as many as fill one of the sizes there are. Never empty.

    Neighbours in length are padded least; the oldest is always among them, so no text waits for ever.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    oldest = first = last = order.index(0)
    size, longest = 1, max(1, lengths[0])
    while first > 0 and (size + 1) * longest <= budget:
        first, size = first - 1, size + 1
    while last + 1 < len(order) and (size + 1) * (longest := max(1, lengths[order[last + 1]])) <= budget:
        last, size = last + 1, size + 1
    size = full_size(size)
    first = max(first, oldest - size + 1)
    return order[first : first + size]


class TextEmbedder(Engine):
    """Embeds texts; each step is one batch, from as many tasks as it has room for."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._tasks: dict[str, _Pending] = {}
        self._queue: list[tuple[str, int]] = []
        self._one_by_one = False

    def load(self, device: str, progress: LoadProgress) -> int:
        self._one_by_one = family(device) == "NPU"
        self._encoder = load_encoder(self._spec, device)
        progress("warming up")
        self._encoder.encode(["warm-up"])
        return self._spec.slots or DEFAULT_SLOTS

    @property
    def busy(self) -> bool:
        return bool(self._tasks)

    def submit(self, task: Task) -> None:
        assert isinstance(task, EmbedTask)
        self._tasks[task.id] = _Pending(task, left=len(task.texts))
        self._queue += [(task.id, i) for i in range(len(task.texts))]

    def cancel(self, task_id: str) -> None:
        self._tasks.pop(task_id, None)
        self._queue = [entry for entry in self._queue if entry[0] != task_id]

    def step(self) -> list[Update]:
        """Embed one batch. Tasks without texts end here."""
        updates = [Update(t, end=End("stop")) for t, p in self._tasks.items() if not p.task.texts]
        for update in updates:
            del self._tasks[update.id]
        if self._queue:
            updates += self._embed_next()
        return updates

    def _embed_next(self) -> list[Update]:
        lengths = [padded_length(self._tasks[t].task.token_counts[i]) for t, i in self._queue]
        chosen = next_batch(lengths, 0 if self._one_by_one else BATCH_PADDED_TOKENS)
        batch = [self._queue[c] for c in chosen]
        taken = set(chosen)
        self._queue = [entry for at, entry in enumerate(self._queue) if at not in taken]
        texts = [self._spec.document_instruction + self._tasks[t].task.texts[i] for t, i in batch]
        vectors = self._encoder.encode(texts)
        for (task_id, index), vector in zip(batch, vectors, strict=True):
            self._tasks[task_id].vectors.append((index, encode_vector(vector)))
        return [self._update(task_id) for task_id in dict.fromkeys(t for t, _ in batch)]

    def _update(self, task_id: str) -> Update:
        pending = self._tasks[task_id]
        pending.left -= len(pending.vectors)
        vectors, pending.vectors = tuple(pending.vectors), []
        if pending.left:
            return Update(task_id, vectors=vectors)
        del self._tasks[task_id]
        return Update(task_id, vectors=vectors, end=End("stop"))


def encode_vector(vector: Sequence[float]) -> str:
    """Base64 of little-endian float32, as OpenAI's `encoding_format: base64` has it."""
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")
