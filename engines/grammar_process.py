"""The process that compiles callers' grammars, so that those that hang, crash or fill the memory do it here.

Run as `python -m engines.grammar_process FD MODEL` by `engines.grammars`, FD being one end of a socket pair. It has the
model's own tokenizer, whose vocabulary is what a grammar is compiled for, and in place of the model a graph of one
operation: a call of one token makes GenAI compile the grammar just as it will in the engine. It ends when the other end
closes, and when one grammar takes more than `COMPILE_CPU_S` or `COMPILE_BYTES`.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from openvino import opset13 as ops

from engines import tokenizer, wire
from engines.base import Grammar
from engines.generation import structured

#: What one grammar may take: processor time, over all threads, to a second; and memory beside the tokenizer's.
COMPILE_CPU_S = 3
COMPILE_BYTES = 512 * 2**20
#: The main thread's stack, half of what an engine has: who recurses too deep does it here first.
STACK_BYTES = 4 * 2**20
#: GenAI keeps every grammar it has compiled: with so much of them this process says that it ends.
KEPT_BYTES = 128 * 2**20

_FREE_TOKEN = 0


def serve(connection: Connection, path: str) -> None:
    """Say `ready` when loaded, then answer each grammar with `ok` or why it does not compile."""
    compiler = Compiler(path)
    base_bytes = _data_bytes()
    if base_bytes:
        _limit(resource.RLIMIT_DATA, base_bytes + COMPILE_BYTES)
    wire.send(connection, "ready")
    while True:
        _, body = wire.receive(connection)
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + COMPILE_CPU_S)
        fault = compiler.fault(Grammar(**body))
        full = _data_bytes() > base_bytes + KEPT_BYTES
        wire.send(connection, "verdict", {"fault": fault, "ends": full})
        if full:
            return


class Compiler:
    """Compiles grammars for the vocabulary of the tokenizer at `path`. Loads in 0.1 to 2.5 s."""

    def __init__(self, path: str) -> None:
        self._tokenizer = genai.Tokenizer(path, **tokenizer.PROPERTIES)
        model, weights = _graph(max(self._tokenizer.get_vocab().values()) + 1)
        self._pipeline = genai.LLMPipeline(model, weights, self._tokenizer, "CPU", ATTENTION_BACKEND="SDPA")
        self.fault(Grammar("regex", "a"))  # What belongs to the vocabulary is made once, at the first.

    def fault(self, grammar: Grammar) -> str:
        """What is wrong with a grammar, in words; empty when it compiles."""
        config = genai.GenerationConfig()
        config.apply_chat_template = False
        config.max_new_tokens = 1
        config.structured_output_config = structured(grammar)
        try:
            self._pipeline.generate(ov.Tensor(np.array([[_FREE_TOKEN]], dtype=np.int64)), config)
        except MemoryError:
            raise
        except Exception as error:
            if "bad_alloc" in str(error):
                raise MemoryError from error
            return words(str(error))
        return ""


def words(message: str) -> str:
    """What xgrammar says is wrong, without where in its source."""
    line = next((line for line in reversed(message.splitlines()) if line.strip()), "")
    _, found, said = line.partition(".cc:")
    said = said.partition(": ")[2] if found else line
    return said.rpartition(" is false: ")[2].strip()[:300] or "it is not valid"


def _graph(vocabulary: int) -> tuple[str, ov.Tensor]:
    """A language model as GenAI takes them whose logits are all 0, and its weights: none to speak of."""

    def number(name: str, shape: list[int], kind: Any = np.int64) -> Any:
        parameter = ops.parameter(shape, kind, name=name)
        parameter.output(0).set_names({name})
        return parameter

    ids = number("input_ids", [-1, -1])
    others = [number("attention_mask", [-1, -1]), number("position_ids", [-1, -1]), number("beam_idx", [-1], np.int32)]
    shape = ops.concat([ops.shape_of(ids), ops.constant(np.array([vocabulary], np.int64))], 0)
    logits = ops.broadcast(ops.constant(np.float32(0)), shape)
    logits.output(0).set_names({"logits"})
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.xml"
        ov.save_model(ov.Model([ops.result(logits)], [ids, *others], "none"), file)
        return file.read_text(), ov.Tensor(np.fromfile(file.with_suffix(".bin"), np.uint8))


def _data_bytes() -> int:
    """The memory that RLIMIT_DATA counts; 0 where it cannot be known."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def _limit(what: int, value: int) -> None:
    resource.setrlimit(what, (value, resource.getrlimit(what)[1]))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_STACK, STACK_BYTES)
    # Whoever shares the machine goes first.
    os.nice(5)
    connection = Connection(socket.socket(fileno=int(sys.argv[1])).detach())
    try:
        serve(connection, sys.argv[2])
    except (EOFError, ConnectionError, MemoryError):
        pass
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
