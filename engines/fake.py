"""An engine without a model: deterministic words at a settable pace, for tests and for trying out the queue.

It answers every prompt with numbered words (" 1 2 3 …", one token each, token n being the word n), so that a lost
or repeated token shows in the text. A prompt's words may command it, for fault tests: `fake:crash` ends the process
with SIGSEGV before its third token (a job continued behind that runs on), `fake:break` raises there, `fake:hang` stops
stepping for ever, `fake:end=N` ends by itself after N tokens, `fake:say=BASE64` says that text instead of words, a few
characters a token. A document's score is the part of the query's words that it has.
Token counts are words, in `engines.tokenizer.FakeTokenizer` too.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import signal
import struct
import time
from collections import deque
from dataclasses import dataclass
from functools import cached_property

from engines.base import EmbedTask, End, Engine, EngineSpec, GenerateTask, LoadProgress, RerankTask, Task, Update

DEFAULT_SLOTS = 8
DIMENSIONS = 8
CRASH_AT_TOKEN = 3
#: Characters of a token of `fake:say`.
SAID_CHARS = 4


@dataclass
class _Running:
    task: GenerateTask
    made: int

    @property
    def last(self) -> int | None:
        """The number of the last token, when the prompt names it or the text."""
        found = re.search(r"fake:end=(\d+)", self.task.prompt)
        if self.said is not None:
            return max(1, -(-len(self.said) // SAID_CHARS))
        return int(found[1]) if found else None

    @cached_property
    def said(self) -> str | None:
        """The text that the prompt says it should say."""
        found = re.search(r"fake:say=([A-Za-z0-9+/=]+)", self.task.prompt)
        return base64.b64decode(found[1]).decode() if found else None

    @property
    def text(self) -> str:
        """The text of the newest token."""
        if self.said is None:
            return f" {self.made}"
        return self.said[(self.made - 1) * SAID_CHARS : self.made * SAID_CHARS]


class FakeEngine(Engine):
    """Takes `fake_token_ms` for each step, whatever the number of tasks in it, like a batching device."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._slots = spec.slots or DEFAULT_SLOTS
        self._running: dict[str, _Running] = {}
        self._waiting: deque[GenerateTask] = deque()
        self._texts: deque[EmbedTask | RerankTask] = deque()

    def load(self, device: str, progress: LoadProgress) -> int:
        return self._slots

    @property
    def busy(self) -> bool:
        return bool(self._running or self._waiting or self._texts)

    def submit(self, task: Task) -> None:
        if isinstance(task, GenerateTask):
            self._waiting.append(task)
        else:
            self._texts.append(task)

    def cancel(self, task_id: str) -> None:
        self._running.pop(task_id, None)
        self._waiting = deque(t for t in self._waiting if t.id != task_id)
        self._texts = deque(t for t in self._texts if t.id != task_id)

    def step(self) -> list[Update]:
        while self._waiting and len(self._running) < self._slots:
            task = self._waiting.popleft()
            self._running[task.id] = _Running(task, len(task.resume))
        time.sleep(self._spec.fake_token_ms / 1000)
        updates = [self._word(r) for r in list(self._running.values())]
        if self._texts:
            whole = self._texts.popleft()
            vectors = tuple((i, _made_of(whole, text)) for i, text in enumerate(whole.texts))
            updates.append(Update(whole.id, vectors=vectors, end=End("stop")))
        return updates

    def _word(self, running: _Running) -> Update:
        task = running.task
        running.made += 1
        if "fake:crash" in task.prompt and running.made == CRASH_AT_TOKEN:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "fake:break" in task.prompt and running.made == CRASH_AT_TOKEN:
            raise RuntimeError("broken, as the prompt told it to")
        while "fake:hang" in task.prompt:
            signal.pause()
        text = running.text
        full = running.made >= task.sampling.max_tokens
        over = running.last is not None and running.made >= running.last
        if not (full or over):
            return Update(task.id, text, (running.made,))
        del self._running[task.id]
        return Update(task.id, text, (running.made,), end=End("stop" if over else "length"))


def _made_of(task: EmbedTask | RerankTask, text: str) -> str:
    return fake_vector(text) if isinstance(task, EmbedTask) else fake_score(task.query, text)


def fake_score(query: str, text: str) -> str:
    """The part of the query's words that the text has, as a vector of one number."""
    wanted = set(query.lower().split())
    score = len(wanted & set(text.lower().split())) / max(1, len(wanted))
    return base64.b64encode(struct.pack("<f", score)).decode("ascii")


def fake_vector(text: str) -> str:
    """A unit vector of `DIMENSIONS` made from the text's hash: equal texts, equal vectors."""
    digest = hashlib.sha256(text.encode()).digest()
    values = [byte / 255 - 0.5 for byte in digest[:DIMENSIONS]]
    norm = sum(v * v for v in values) ** 0.5
    return base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *(v / norm for v in values))).decode("ascii")
