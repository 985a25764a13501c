"""What can go wrong in the engine layer. Every message tells a person what to do next.

    EngineError
    ├── LoadError                 no device takes the model; says why for each
    ├── PromptError               the model's template or vocabulary does not take it
    ├── GrammarError              a grammar for the answer does not compile
    │   └── GrammarsBusy          nobody knows yet whether it does: too many are being compiled
    └── ModelError
        ├── BadModelName          the name breaks the rules, or leads out of the store
        ├── ModelNotFound         not in the store
        ├── CorruptModel          in the store, but its manifest or files are damaged
        ├── UnsupportedModel      files that no engine here can run
        └── PullError
            ├── BadReference      neither a catalogue name nor hf:, pip: or dir:
            ├── SourceUnavailable cannot be reached, refused us, or holds no such thing
            ├── UnsafeSource      its files try to leave their folder
            ├── HashMismatch      the bytes are not the promised ones; nothing is kept
            ├── DiskFull          not enough room, with the needed and the free bytes
            └── ConversionFailed  the converter ended with an error or crashed

`code` is stable and goes out to API clients and exit messages; the class names may change.
"""

import re
from typing import ClassVar

#: Source files in OpenVINO's messages.
_PATH = re.compile(r"\S*/\S+:?\d*:?")


def reason_of(error: Exception) -> str:
    """What OpenVINO says of an error, in its last line, without the places in its source; fit for callers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _PATH.sub("", lines[-1]).strip()[:300] if lines else type(error).__name__


class EngineError(Exception):
    """The root: anything the engine layer reports on purpose."""

    code: ClassVar[str] = "engine_error"


class LoadError(EngineError):
    code = "load_failed"


class PromptError(EngineError):
    code = "invalid_prompt"


class GrammarError(EngineError):
    code = "invalid_grammar"


class GrammarsBusy(GrammarError):
    code = "grammars_busy"


class ModelError(EngineError):
    code = "model_error"


class BadModelName(ModelError):
    code = "bad_model_name"


class ModelNotFound(ModelError):
    code = "model_not_found"


class CorruptModel(ModelError):
    code = "corrupt_model"


class UnsupportedModel(ModelError):
    code = "unsupported_model"


class PullError(ModelError):
    code = "pull_failed"


class BadReference(PullError):
    code = "bad_reference"


class SourceUnavailable(PullError):
    code = "source_unavailable"


class UnsafeSource(PullError):
    code = "unsafe_source"


class HashMismatch(PullError):
    code = "hash_mismatch"


class DiskFull(PullError):
    code = "disk_full"

    def __init__(self, needed_bytes: int, free_bytes: int, where: str) -> None:
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes
        super().__init__(
            f"the disk is full: {needed_bytes:,} more bytes are needed in {where}, {free_bytes:,} are free; "
            "make room (`npu-proxy rm NAME` removes a model) and pull again: it goes on from the bytes it has"
        )


class ConversionFailed(PullError):
    code = "conversion_failed"
