"""The model in process: OpenVINO GenAI called directly, with the engine's settings and nothing around it.

Run as `python -m bench.reference_process FD PARENT` by `bench.reference`. One request, one answer, in turn.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import openvino_genai as genai

from engines import wire
from engines.base import EngineSpec
from engines.devices import candidates
from engines.embed import BATCH_PADDED_TOKENS, next_batch
from engines.llm import DEFAULT_SLOTS
from engines.process import die_with

#: Texts a call of a program that does not plan its batches.
PLAIN_BATCH = 32


class Chats:
    """A ContinuousBatchingPipeline and the plainest loop that drives it."""

    def __init__(self, spec: EngineSpec, device: str) -> None:
        properties = {"CACHE_DIR": spec.cache_dir} if spec.cache_dir else {}
        self._pipeline = genai.ContinuousBatchingPipeline(
            spec.path, scheduler_config(spec), device, {**properties, **spec.properties}
        )
        self._tokenizer = self._pipeline.get_tokenizer()
        self._next_request = 0

    def generate(self, prompts: Sequence[str], max_tokens: int) -> dict[str, Any]:
        """The fields of `bench.sides.Generation`.

        The first text is decoded when it is there; the rest is left as tokens until the clock has stopped. So
        what is compared with is the device alone, while the server turns every token into text.
        """
        config = genai.GenerationConfig()
        config.max_new_tokens = max_tokens
        config.ignore_eos = True
        config.apply_chat_template = False
        begun_s = time.perf_counter()
        handles = [self._add(prompt, config) for prompt in prompts]
        tokens: list[list[int]] = [[] for _ in handles]
        running = list(enumerate(handles))
        first_s = 0.0
        while running:
            self._pipeline.step()
            for index, (handle, _) in running:
                # `read()` with nothing ready waits while it holds the GIL.
                while handle.can_read():
                    for output in handle.read().values():
                        tokens[index] += output.generated_ids
            if not first_s and (begun := next(filter(None, tokens), None)):
                self._tokenizer.decode(begun)
                first_s = time.perf_counter() - begun_s
            running = [
                (index, entry)
                for index, entry in running
                if entry[0].get_status() == genai.GenerationStatus.RUNNING
            ]
        total_s = time.perf_counter() - begun_s
        return {
            "first_s": first_s,
            "total_s": total_s,
            "tokens": sum(map(len, tokens)),
            "prompt_tokens": sum(count for _, count in handles),
            "texts": [self._tokenizer.decode(ids) for ids in tokens],
        }

    def _add(self, prompt: str, config: genai.GenerationConfig) -> tuple[genai.GenerationHandle, int]:
        chat = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True
        )
        ids = self._tokenizer.encode(chat, add_special_tokens=False).input_ids
        self._next_request += 1
        return self._pipeline.add_request(self._next_request, ids, config), ids.shape[1]


class Embeddings:
    """A TextEmbeddingPipeline, called."""

    def __init__(self, spec: EngineSpec, device: str) -> None:
        config = genai.TextEmbeddingPipeline.Config()
        config.pooling_type = getattr(genai.TextEmbeddingPipeline.PoolingType, spec.pooling.upper())
        config.normalize = spec.normalize
        config.max_length = spec.context_tokens
        self._pipeline = genai.TextEmbeddingPipeline(spec.path, device, config, **spec.properties)
        self._tokenizer = genai.Tokenizer(spec.path)

    def embed(self, texts: list[str], as_the_engine: bool) -> float:
        """Seconds for all texts; cutting them into batches is not part of it."""
        batches = self._planned(texts) if as_the_engine else plain_batches(texts)
        begun_s = time.perf_counter()
        for batch in batches:
            self._pipeline.embed_documents(batch)
        return time.perf_counter() - begun_s

    def _planned(self, texts: list[str]) -> list[list[str]]:
        waiting = [(text, int(self._tokenizer.encode(text).input_ids.shape[1])) for text in texts]
        batches = []
        while waiting:
            chosen = next_batch([count for _, count in waiting], BATCH_PADDED_TOKENS)
            batches.append([waiting[at][0] for at in chosen])
            taken = set(chosen)
            waiting = [entry for at, entry in enumerate(waiting) if at not in taken]
        return batches


def plain_batches(texts: list[str]) -> list[list[str]]:
    """The texts in their order, `PLAIN_BATCH` a call."""
    return [texts[at : at + PLAIN_BATCH] for at in range(0, len(texts), PLAIN_BATCH)]


def scheduler_config(spec: EngineSpec) -> genai.SchedulerConfig:
    """As the engine's own (a test holds them equal): who batches otherwise is not to be compared."""
    slots = spec.slots or DEFAULT_SLOTS
    config = genai.SchedulerConfig()
    config.max_num_batched_tokens = max(spec.max_step_tokens, slots)
    config.max_num_seqs = slots
    config.cache_size = spec.kv_cache_gb
    config.dynamic_split_fuse = True
    config.enable_prefix_caching = spec.prefix_caching
    return config


def load(spec: EngineSpec) -> dict[str, Callable[..., Any]]:
    """What can be asked for, by name, with the model on the device that the engine would choose first."""
    import openvino

    available = openvino.Core().available_devices
    chain = candidates(spec.device, available, spec.device_hints, spec.properties)
    device = next(candidate.device for candidate in chain if not candidate.skip)
    if spec.kind == "llm":
        return {"generate": Chats(spec, device).generate}
    return {"embed": Embeddings(spec, device).embed}


def main() -> None:
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    # Ctrl-C goes to the whole terminal group; the bench ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(socket.socket(fileno=fd).detach())
    try:
        _, body = wire.receive(connection)
        operations = load(wire.spec_from(body))
        wire.send(connection, "ready")
        while True:
            kind, body = wire.receive(connection)
            wire.send(connection, "done", operations[kind](**body))
    except (EOFError, ConnectionError):
        pass
    except Exception as error:
        wire.send(connection, "failed", str(error))
    os._exit(0)


if __name__ == "__main__":
    main()
