"""Language models where the device takes one request at a time (NPU): GenAI's static-shape LLMPipeline.

`generate()` blocks until the text is whole, so it runs in a thread of its own, and `step()` waits for its next
token. The thread calls GenAI only inside one `generate()` at a time: two at once give wrong text.
"""

from __future__ import annotations

import queue
import threading

import numpy as np
import openvino as ov
import openvino_genai as genai

from engines.base import End, Engine, EngineSpec, GenerateTask, LoadProgress, Task, Update
from engines.detokenizer import TextStream, advance_all, finish_all
from engines.errors import PromptError, reason_of
from engines.generation import WARM_UP, as_tensor, input_ids, to_config
from engines.properties import properties_for
from engines.special_tokens import SpecialTexts

#: How long `step()` waits for a token before it lets its owner look for commands.
STEP_WAIT_S = 0.05


class _Sink(genai.StreamerBase):  # type: ignore[misc]  # untyped
    """Receives tokens on the generating thread. What `write` returns is the only way to stop `generate()`:
    an exception in it would be swallowed or lost."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: queue.SimpleQueue[int | Exception | None] = queue.SimpleQueue()
        self.cancelled = False

    def write(self, token: int | list[int]) -> genai.StreamingStatus:
        for each in token if isinstance(token, list) else [token]:
            self.tokens.put(each)
        return genai.StreamingStatus.CANCEL if self.cancelled else genai.StreamingStatus.RUNNING

    def end(self) -> None:
        """GenAI calls this when generation is over; the thread reports that itself."""


class SerialLLM(Engine):
    """One generation at a time; others wait inside the engine in order of arrival."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._waiting: list[GenerateTask] = []
        self._task: GenerateTask | None = None
        self._thread: threading.Thread | None = None

    def load(self, device: str, progress: LoadProgress) -> int:
        properties = properties_for(self._spec, device)
        self._pipeline = genai.LLMPipeline(self._spec.path, device, **properties)
        self._compiled_tokens = int(properties["MAX_PROMPT_LEN"]) + int(properties["MIN_RESPONSE_LEN"])
        self._tokenizer = self._pipeline.get_tokenizer()
        self._special = SpecialTexts(self._tokenizer)
        self._defaults = self._pipeline.get_generation_config()
        progress("warming up")
        self.submit(WARM_UP)
        while self.busy:
            self.step()
        return 1

    @property
    def busy(self) -> bool:
        return self._task is not None or bool(self._waiting)

    def submit(self, task: Task) -> None:
        assert isinstance(task, GenerateTask)
        self._waiting.append(task)

    def cancel(self, task_id: str) -> None:
        self._waiting = [t for t in self._waiting if t.id != task_id]
        if self._task is not None and self._task.id == task_id:
            self._stop_generating()

    def step(self) -> list[Update]:
        """Wait up to `STEP_WAIT_S` for the next token of the running task, or start the next task."""
        if self._task is None:
            task = self._waiting.pop(0)
            try:
                self._start(task)
            except Exception as error:
                return [Update(task.id, end=End("failed", "bad_request", reason_of(error)))]
        try:
            item = self._sink.tokens.get(timeout=STEP_WAIT_S)
        except queue.Empty:
            self.moved = False
            return []
        self.moved = True
        return self._take(item)

    def _start(self, task: GenerateTask) -> None:
        if task.grammar is not None:
            raise PromptError("An NPU's pipeline follows no grammar.")
        config = to_config(task.sampling, self._defaults, already=len(task.resume))
        ids = as_tensor(input_ids(self._tokenizer, task, self._spec.npu_max_prompt_tokens + 1))
        inputs = genai.TokenizedInputs(ids, ov.Tensor(np.ones_like(ids.data)))
        self._stream = TextStream(task.sampling.stop, self._special.all_but(task.kept_tokens))
        if task.resume:
            advance_all(self._tokenizer.decode, [self._stream], [task.resume])
        self._sink, self._unsent, self._made = _Sink(), list[int](), 0
        # An NPU's pipeline also ends, silently, when its compiled length is full.
        self._limit = min(config.max_new_tokens, self._compiled_tokens - len(ids.data[0]))
        self._thread = threading.Thread(
            target=_generate, args=(self._pipeline, inputs, config, self._sink), name="generate", daemon=True
        )
        self._task = task
        self._thread.start()

    def _take(self, item: int | Exception | None) -> list[Update]:
        assert self._task is not None
        task_id = self._task.id
        if isinstance(item, Exception):
            self._stop_generating()
            return [Update(task_id, end=End("failed", "engine_error", reason_of(item)))]
        if item is None:
            rest = finish_all(self._tokenizer.decode, [self._stream])[0]
            self._stop_generating()
            end = End("length" if self._made >= self._limit else "stop")
            return [Update(task_id, rest, tuple(self._unsent), end=end)]
        self._made += 1
        self._unsent.append(item)
        text = advance_all(self._tokenizer.decode, [self._stream], [[item]])[0]
        if self._stream.stopped:
            self._stop_generating()
            return [Update(task_id, text, tuple(self._unsent), end=End("stop"))]
        if not text:
            return []
        tokens, self._unsent = tuple(self._unsent), []
        return [Update(task_id, text, tokens)]

    def _stop_generating(self) -> None:
        """End the running `generate()` at its next token and wait for it: the pipeline takes only one."""
        self._sink.cancelled = True
        if self._thread is not None:
            self._thread.join()
        self._task = self._thread = None


def _generate(
    pipeline: genai.LLMPipeline, inputs: genai.TokenizedInputs, config: genai.GenerationConfig, sink: _Sink
) -> None:
    """One generation, on its own thread; the sink's last item is None, or the exception that ended it."""
    try:
        pipeline.generate(inputs, config, sink)
        sink.tokens.put(None)
    except Exception as error:
        sink.tokens.put(error)
