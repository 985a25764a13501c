"""The seam between the engine process and what runs a model: one base class and the plain data it speaks.

An engine is driven by one owner thread. That thread submits and cancels tasks and calls `step()` again and
again; each step advances every running task by about one token (or one batch of texts) and returns what is
new. Nothing here is safe to call from two threads: OpenVINO GenAI locks neither `add_request` nor `step`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["llm", "embed", "rerank", "vision"]
EndReason = Literal["stop", "length", "cancelled", "failed"]
GrammarKind = Literal["json_schema", "regex", "ebnf", "structural_tag"]

#: Called while a model loads, with what is happening now in a few words.
LoadProgress = Callable[[str], None]


@dataclass(frozen=True)
class EngineSpec:
    """What to load and where. Plain JSON data: it crosses a socket to the engine process."""

    kind: Kind
    model: str
    path: str
    device: str = "CPU"
    #: Devices the model's format can run on; empty means any.
    device_hints: tuple[str, ...] = ()
    #: Tokens of prompt and completion together.
    context_tokens: int = 8192
    #: Tasks at once; 0 lets the engine choose by device.
    slots: int = 0
    backend: str = "genai"
    #: Tokens prefilled in one step: bounds the time in which nothing can be cancelled.
    max_step_tokens: int = 256
    #: 0 lets the cache grow as needed.
    kv_cache_gb: int = 0
    prefix_caching: bool = False
    npu_max_prompt_tokens: int = 1800
    npu_min_response_tokens: int = 512
    #: How an NPU's pipeline is compiled; GenAI's PREFILL_HINT and GENERATE_HINT.
    npu_prefill_hint: str = "DYNAMIC"
    npu_generate_hint: str = "FAST_COMPILE"
    #: Whether an answer must not depend on what runs beside it; slower.
    reproducible: bool = False
    #: Where compiled models are kept between starts; empty for nowhere.
    cache_dir: str = ""
    #: OpenVINO properties added to (and winning over) the engine's own.
    properties: dict[str, Any] = field(default_factory=dict)
    pooling: str = "mean"
    normalize: bool = True
    document_instruction: str = ""
    fake_token_ms: float = 5.0


@dataclass(frozen=True)
class EngineFacts:
    """What a loaded engine says about itself; shown by `/health` and in response headers."""

    kind: Kind
    model: str
    device: str
    context_tokens: int
    #: The longest prompt it takes; an NPU's is compiled in.
    max_prompt_tokens: int
    slots: int
    load_s: float
    #: Why each device before `device` in the chain was passed over, in words.
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen and when to stop. Ranges are checked by the API's schemas, before the queue."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    #: 0 means no limit.
    top_k: int = 0
    min_p: float = 0.0
    #: None draws a new seed for each request.
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    ignore_eos: bool = False


@dataclass(frozen=True)
class Grammar:
    """What an answer must be. Checked by `engines.grammars` first: one that does not compile breaks the engine."""

    kind: GrammarKind
    text: str


@dataclass(frozen=True)
class GenerateTask:
    """One completion. `resume` holds the tokens already sent: generation goes on behind them, unless a `grammar` holds,
    whose place in the text would be lost."""

    id: str
    prompt: str
    sampling: Sampling
    #: The prompt's tokens, when the caller has encoded it; then `prompt` is empty.
    prompt_ids: tuple[int, ...] = ()
    #: Whether the tokenizer adds its own (BOS …): not when a chat template already did.
    add_special_tokens: bool = False
    resume: tuple[int, ...] = ()
    #: Base64 of PNGs or JPEGs, for vision models; `prompt` says where each stands (`engines.image_tags`).
    images: tuple[str, ...] = ()
    grammar: Grammar | None = None
    #: Special tokens that stay in the text, as marks for who reads it.
    kept_tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class EmbedTask:
    """Texts to embed, with the token count of each (the caller has counted them to check their length)."""

    id: str
    texts: tuple[str, ...]
    token_counts: tuple[int, ...]


@dataclass(frozen=True)
class RerankTask:
    """Texts to score against a query, with the token count of each and of the query, without special tokens."""

    id: str
    query: str
    query_tokens: int
    texts: tuple[str, ...]
    token_counts: tuple[int, ...]


Task = GenerateTask | EmbedTask | RerankTask


@dataclass(frozen=True)
class End:
    """How a task ended. `code` and `message` are set when it failed."""

    reason: EndReason
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class Update:
    """What one step brought to one task.

    `text` never ends within a character, and `tokens` are those read since the last update of this task:
    a caller that has the tokens of all updates can resume the task elsewhere, neither losing nor repeating text.
    """

    id: str
    text: str = ""
    tokens: tuple[int, ...] = ()
    #: For embeddings: position in the task → the vector as base64 of little-endian float32. A reranked text's vector
    #: is one number, its score.
    vectors: tuple[tuple[int, str], ...] = ()
    end: End | None = None


class Engine(ABC):
    """A model on a device. Made in the engine process, used by its owner thread only."""

    @abstractmethod
    def load(self, device: str, progress: LoadProgress) -> int:
        """Load the model onto that device and warm it up; the number of tasks it takes at once.

        Blocks for seconds to minutes; raises whatever OpenVINO raises when the device cannot have the model.
        """

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Take a task. Returns at once; an error in the task comes back as an `Update` that ends it."""

    @abstractmethod
    def cancel(self, task_id: str) -> None:
        """Stop a task before the next step. An unknown id does nothing. No further `Update` names the task."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether `step()` has anything to do."""

    @abstractmethod
    def step(self) -> list[Update]:
        """Advance every task; blocks for one step of the device. An exception means that the engine is broken."""

    #: Whether the last `step()` brought the device forward. Who waits for it in steps says no, or it would look alive
    #: when it hangs.
    moved: bool = True

    def close(self) -> None:  # noqa: B027 - most engines have nothing to close
        """Free the device."""
