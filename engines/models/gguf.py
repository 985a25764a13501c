"""Reads the head of a GGUF file: what the model says of itself, without loading it.

Also the guard before OpenVINO sees the file, whose reader crashes the process on a mangled one.
Format: docs/gguf.md of github.com/ggml-org/ggml.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engines.errors import UnsupportedModel

# struct's codes for the value types that are numbers.
_NUMBERS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
# general.file_type, as llama.cpp's enum llama_ftype numbers it.
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    32: "BF16",
}  # fmt: skip


@dataclass(frozen=True)
class GgufFacts:
    """`architecture` is the family (`llama`, `qwen3`); `context_tokens` is 0 if the file does not say."""

    architecture: str
    context_tokens: int
    parameters: int
    quantization: str


def read_facts(path: Path) -> GgufFacts:
    """Raises UnsupportedModel if the file is no GGUF, is cut short, or contradicts itself."""
    try:
        with path.open("rb") as stream:
            return _read(stream, path.stat().st_size)
    except (EOFError, struct.error, ValueError, OverflowError) as error:
        raise UnsupportedModel(f"{path.name} is not a whole GGUF file ({error})") from error


def _read(stream: BinaryIO, size_bytes: int) -> GgufFacts:
    if stream.read(4) != b"GGUF":
        raise ValueError("it does not start with GGUF")
    if (version := _number(stream, 4)) not in (2, 3):
        raise ValueError(f"GGUF version {version}")
    tensors, pairs = _number(stream, 10), _number(stream, 10)
    facts: dict[str, object] = {}
    for _ in range(pairs):
        key = _text(stream, size_bytes)
        value = _value(stream, _number(stream, 4), size_bytes)
        if value is not None:
            facts[key] = value
    parameters, last_offset = 0, 0
    for _ in range(tensors):
        _text(stream, size_bytes)
        dimensions = _number(stream, 4)
        if dimensions > 8:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        parameters += math.prod(_number(stream, 10) for _ in range(dimensions))
        stream.seek(4, 1)
        last_offset = max(last_offset, _number(stream, 10))
    if stream.tell() + last_offset >= size_bytes:
        raise ValueError("its last tensor is missing")
    architecture = str(facts.get("general.architecture", ""))
    file_type, context = facts.get("general.file_type"), facts.get(f"{architecture}.context_length")
    return GgufFacts(
        architecture=architecture,
        context_tokens=context if isinstance(context, int) else 0,
        parameters=parameters,
        quantization=_FILE_TYPES.get(file_type, "") if isinstance(file_type, int) else "",
    )


def _value(stream: BinaryIO, kind: int, size_bytes: int) -> object:
    """A number or string; None for an array, which is passed over."""
    if kind == _STRING:
        return _text(stream, size_bytes)
    if kind != _ARRAY:
        return _number(stream, kind)
    kind, count = _number(stream, 4), _number(stream, 10)
    if kind in _NUMBERS:
        stream.seek(count * struct.calcsize(_NUMBERS[kind]), 1)
    elif kind == _STRING:
        for _ in range(count):
            _skip(stream, _number(stream, 10), size_bytes)
    else:
        raise ValueError(f"an array of type {kind}")
    return None


def _number(stream: BinaryIO, kind: int) -> int:
    if kind not in _NUMBERS:
        raise ValueError(f"a value of type {kind}")
    form = _NUMBERS[kind]
    number: int = struct.unpack(form, stream.read(struct.calcsize(form)))[0]
    return number


def _text(stream: BinaryIO, size_bytes: int) -> str:
    length = _number(stream, 10)
    if length > size_bytes - stream.tell():
        raise EOFError("it is cut short")
    return stream.read(length).decode("utf-8", "replace")


def _skip(stream: BinaryIO, length: int, size_bytes: int) -> None:
    if length > size_bytes - stream.tell():
        raise EOFError("it is cut short")
    stream.seek(length, 1)
