"""Messages between a worker and its engine process: one JSON object a frame, over a socket pair.

Worker → engine: `load` (the spec), `submit`, `cancel`. Engine → worker: `progress`, `ready`, `failed`, `step`,
`cancelled`.
Framing is `multiprocessing.connection.Connection`'s (length-prefixed bytes); nothing is pickled.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from engines.base import (
    EmbedTask,
    End,
    EngineFacts,
    EngineSpec,
    GenerateTask,
    Grammar,
    RerankTask,
    Sampling,
    Task,
    Update,
)

Message = dict[str, Any]


def send(connection: Connection, kind: str, body: Any = None) -> None:
    """Send one message; blocks while the other end's buffer is full. OSError when it is gone."""
    connection.send_bytes(json.dumps([kind, body], separators=(",", ":")).encode())


def receive(connection: Connection) -> tuple[str, Any]:
    """The next message; blocks until it is there. EOFError when the other end is gone."""
    kind, body = json.loads(connection.recv_bytes())
    return kind, body


def spec_from(body: Message) -> EngineSpec:
    return EngineSpec(**{**body, "device_hints": tuple(body["device_hints"])})


def facts_from(body: Message) -> EngineFacts:
    return EngineFacts(**{**body, "fallbacks": tuple(body["fallbacks"])})


_KINDS: dict[type[Task], str] = {GenerateTask: "generate", EmbedTask: "embed", RerankTask: "rerank"}


def task_to(task: Task) -> Message:
    return {"kind": _KINDS[type(task)], **asdict(task)}


def task_from(body: Message) -> Task:
    if body["kind"] == "embed":
        return EmbedTask(body["id"], tuple(body["texts"]), tuple(body["token_counts"]))
    if body["kind"] == "rerank":
        return RerankTask(
            body["id"], body["query"], body["query_tokens"], tuple(body["texts"]), tuple(body["token_counts"])
        )
    sampling = dict(body["sampling"])
    sampling["stop"] = tuple(sampling["stop"])
    sampling["stop_token_ids"] = tuple(sampling["stop_token_ids"])
    return GenerateTask(
        body["id"],
        body["prompt"],
        Sampling(**sampling),
        tuple(body["prompt_ids"]),
        body["add_special_tokens"],
        tuple(body["resume"]),
        tuple(body.get("images", ())),  # A job queued before an upgrade has none of these.
        Grammar(**body["grammar"]) if body.get("grammar") else None,
        tuple(body.get("kept_tokens", ())),
    )


def updates_to(updates: list[Update]) -> list[list[Any]]:
    """A list a task, not an object: this is sent once per step, with every running task in it."""
    return [[u.id, u.text, u.tokens, u.vectors, u.end and [u.end.reason, u.end.code, u.end.message]] for u in updates]


def updates_from(body: list[list[Any]]) -> list[Update]:
    return [
        Update(task_id, text, tuple(tokens), tuple((i, v) for i, v in vectors), End(*end) if end else None)
        for task_id, text, tokens, vectors, end in body
    ]
