"""A job as data: its record in Redis, its states, and what came of it."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled", "expired"]
FINAL: frozenset[str] = frozenset({"completed", "incomplete", "failed", "cancelled", "expired"})
Lane = Literal["interactive", "batch"]

_ALPHABET = string.ascii_letters + string.digits
_ID_LENGTH = 24


def new_id(prefix: str) -> str:
    """`job_4fWz…`: unguessable (142 bits), and safe in Redis keys, RQ ids and URLs."""
    return prefix + "_" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


def is_job_id(text: str) -> bool:
    """Whether this could be an id of ours at all; anything else is not looked up."""
    prefix, _, rest = text.partition("_")
    return prefix == "job" and len(rest) == _ID_LENGTH and set(rest) <= set(_ALPHABET)


@dataclass(frozen=True)
class Usage:
    """Tokens in and out, and the two times that Ollama's clients are told, in ms."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    #: From the start of the run to the first token.
    prompt_ms: int = 0
    #: From the first token to the last.
    completion_ms: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a run produced. `vectors` are base64 of little-endian float32, one a text."""

    text: str = ""
    finish_reason: str = ""
    usage: Usage = field(default_factory=Usage)
    vectors: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobError:
    """Why a job has no (whole) result, in the words the caller is told."""

    code: str
    message: str


@dataclass(frozen=True)
class Job:
    """The record of one unit of work. Times are unix milliseconds, 0 for not yet."""

    id: str
    engine: str
    endpoint: str
    model: str
    #: Who it is for: the request's `user`, else the client's address.
    user: str
    #: `keys.user_key` of it, and the user's weight: the part of the device they get beside others.
    user_key: str = ""
    weight: float = 1.0
    #: What the user's minute was charged for it at submit (`scheduler.limits`); 0 where there is no such limit.
    reserved_tokens: int = 0
    #: The engine's task as JSON (`engines.wire.task_to`), with the prompt; gone when the job has ended.
    task: str = ""
    lane: Lane = "interactive"
    state: State = "queued"
    attempt: int = 0
    crashes: int = 0
    #: Token events published so far, and the completion tokens in them.
    published: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    cancel: bool = False
    worker: str = ""
    #: Where it runs, or ran last.
    device: str = ""
    created_ms: int = 0
    queue_deadline_ms: int = 0
    #: How long one job may run in all its attempts together, counted from its first start.
    run_timeout_ms: int = 0
    #: By when its caller wants it, whatever has come of it; 0 for no such time.
    deadline_ms: int = 0
    #: How long it can be read after its end. Seconds.
    ttl_s: int = 86_400
    started_ms: int = 0
    ended_ms: int = 0
    outcome: Outcome | None = None
    error: JobError | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    #: Who may see it; without keys there is one owner, the server itself.
    owner: str = "local"
    #: What the endpoint needs to write its answer, beside the outcome.
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def run_deadline_ms(self) -> int:
        by_run = self.started_ms + self.run_timeout_ms
        return min(by_run, self.deadline_ms) if self.deadline_ms else by_run


def to_hash(job: Job) -> dict[str, str]:
    """The record as a Redis hash; `outcome` and `error` are written by the scripts when there are some."""
    plain = {k: v for k, v in vars(job).items() if k not in ("outcome", "error", "metadata", "answer", "cancel")}
    return {
        **{k: str(v) for k, v in plain.items()},
        "metadata": json.dumps(job.metadata),
        "answer": json.dumps(job.answer),
        "cancel": "1" if job.cancel else "0",
    }


_CONVERT: dict[str, Callable[[str], Any]] = {"int": int, "float": float}


def from_hash(record: Mapping[str, str]) -> Job:
    """The job of a Redis hash. Fields that a newer version may have added are left out."""
    values: dict[str, Any] = {}
    for name, kind in Job.__dataclass_fields__.items():
        if name in record:
            values[name] = _CONVERT.get(str(kind.type), str)(record[name])
    values["cancel"] = record.get("cancel") == "1"
    values["metadata"] = json.loads(record.get("metadata") or "{}")
    values["answer"] = json.loads(record.get("answer") or "{}")
    values["outcome"] = outcome_from_json(record.get("outcome") or "")
    values["error"] = JobError(**json.loads(record["error"])) if record.get("error") else None
    return Job(**values)


def to_json(value: Outcome | JobError) -> str:
    return json.dumps(asdict(value), separators=(",", ":"))


def outcome_from_json(text: str) -> Outcome | None:
    if not text:
        return None
    body = json.loads(text)
    return Outcome(body["text"], body["finish_reason"], Usage(**body["usage"]), tuple(body["vectors"]))
