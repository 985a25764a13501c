"""Language models where the device batches (CPU, GPU): GenAI's ContinuousBatchingPipeline, one step at a time.

Tasks join and leave at any step. Long prompts are prefilled in chunks of `max_step_tokens`, so that no step
takes long and a cancel is never far away.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import openvino_genai as genai

from engines import tokenizer
from engines.base import End, Engine, EngineSpec, GenerateTask, LoadProgress, Task, Update
from engines.detokenizer import TextStream, advance_all, finish_all
from engines.errors import reason_of
from engines.generation import WARM_UP, as_tensor, input_ids, to_config
from engines.properties import properties_for
from engines.special_tokens import SpecialTexts

DEFAULT_SLOTS = 8


@dataclass
class _Running:
    task: GenerateTask
    handle: genai.GenerationHandle
    stream: TextStream
    #: Tokens of the last step; tokens and text not yet given out.
    fresh: list[int] = field(default_factory=list)
    unsent: list[int] = field(default_factory=list)
    text: str = ""
    finish: genai.GenerationFinishReason = genai.GenerationFinishReason.NONE

    def read(self) -> bool:
        """Take what the device made. `read()` with nothing ready would wait while holding the GIL: ask first."""
        self.fresh = []
        while self.handle.can_read():
            for output in self.handle.read().values():
                self.fresh += output.generated_ids
                self.finish = output.finish_reason
        self.unsent += self.fresh
        return bool(self.fresh)

    def end(self) -> End | None:
        """How the task ended, if it did."""
        if self.stream.stopped:
            return End("stop")
        status = self.handle.get_status()
        if status == genai.GenerationStatus.RUNNING:
            return None
        if status == genai.GenerationStatus.IGNORED:
            return End("failed", "prompt_too_long", "The prompt does not fit into the engine's cache.")
        return End("length" if self.finish == genai.GenerationFinishReason.LENGTH else "stop")

    def update(self, end: End | None = None) -> Update:
        """Give out what has gathered."""
        update = Update(self.task.id, self.text, tuple(self.unsent), end=end)
        self.unsent, self.text = [], ""
        return update


class BatchingLLM(Engine):
    """Many generations at once on one model. A request that breaks `step()` breaks the engine: see `step`."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._running: dict[str, _Running] = {}
        self._ended: list[Update] = []
        self._next_request = 0
        self._slots = spec.slots or DEFAULT_SLOTS

    def load(self, device: str, progress: LoadProgress) -> int:
        self._pipeline = genai.ContinuousBatchingPipeline(
            self._spec.path,
            self._scheduler(),
            device,
            properties_for(self._spec, device),
            tokenizer.PROPERTIES,
        )
        self._tokenizer = self._pipeline.get_tokenizer()
        self._special = SpecialTexts(self._tokenizer)
        self._defaults = self._pipeline.get_config()
        progress("warming up")
        self._warm_up()
        return self._slots

    def _scheduler(self) -> genai.SchedulerConfig:
        config = genai.SchedulerConfig()
        config.max_num_batched_tokens = max(self._spec.max_step_tokens, self._slots)
        config.max_num_seqs = self._slots
        config.cache_size = self._spec.kv_cache_gb
        config.dynamic_split_fuse = True
        config.enable_prefix_caching = self._spec.prefix_caching
        return config

    def _warm_up(self) -> None:
        """Compile the kernels of prefill and decoding before the first job, not during it."""
        self.submit(WARM_UP)
        while self.busy:
            self.step()

    @property
    def busy(self) -> bool:
        return bool(self._running or self._ended)

    def submit(self, task: Task) -> None:
        assert isinstance(task, GenerateTask)
        try:
            stream = TextStream(task.sampling.stop, self._special.all_but(task.kept_tokens))
            config = to_config(task.sampling, self._defaults, len(task.resume), task.grammar)
            if task.resume:
                advance_all(self._tokenizer.decode, [stream], [task.resume])
            self._next_request += 1
            handle = self._add(self._next_request, task, config)
        except Exception as error:
            self._ended.append(Update(task.id, end=End("failed", "bad_request", reason_of(error))))
            return
        self._running[task.id] = _Running(task, handle, stream)

    def _add(self, number: int, task: GenerateTask, config: genai.GenerationConfig) -> genai.GenerationHandle:
        """Hand a request to the pipeline, under a number that none had before."""
        tensor = as_tensor(input_ids(self._tokenizer, task, self._spec.context_tokens))
        return self._pipeline.add_request(number, tensor, config)

    def cancel(self, task_id: str) -> None:
        if running := self._running.pop(task_id, None):
            running.handle.cancel()

    def step(self) -> list[Update]:
        """One forward pass for all tasks. GenAI raises here for every task when one is bad: the caller must
        treat an exception as the death of this engine."""
        updates, self._ended = self._ended, []
        if self._running:
            self._pipeline.step()
            updates += self._collect()
        return updates

    def _collect(self) -> list[Update]:
        active = list(self._running.values())
        moved = [r for r in active if r.read()]
        texts = advance_all(self._tokenizer.decode, [r.stream for r in moved], [r.fresh for r in moved])
        for running, text in zip(moved, texts, strict=True):
            running.text += text
        over = [(r, end) for r in active if (end := r.end())]
        rests = finish_all(self._tokenizer.decode, [r.stream for r, _ in over])
        updates = []
        for (running, end), rest in zip(over, rests, strict=True):
            running.text += rest
            updates.append(running.update(end))
            running.handle.cancel()
            del self._running[running.task.id]
        return updates + [r.update() for r in moved if r.text]
