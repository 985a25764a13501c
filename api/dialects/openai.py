"""OpenAI's endpoints. Wire: the types of the official `openai` Python client."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

from api.answers.reader import Call, answer_of, finish_reason
from api.dialects import structured
from api.dialects.base import Body, Json, Operation, Stream, given
from api.dialects.tools import arguments_of, tools_of
from api.errors import Problem, openai_body
from api.schemas import openai as schemas
from jobs.models import OfferedModel
from jobs.record import Job, Usage
from jobs.request import EmbedRequest, GenerateRequest, Sampling

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"


# --- requests


def sampling(body: Body) -> Sampling:
    """The sampling fields that chat and plain completions share."""
    return Sampling(
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens") or 0,
        top_k=max(0, body.get("top_k") or 0),
        stop_token_ids=tuple(body.get("stop_token_ids") or ()),
        **given(
            body,
            "temperature",
            "top_p",
            "min_p",
            "seed",
            "stop",
            "presence_penalty",
            "frequency_penalty",
            "repetition_penalty",
            "ignore_eos",
            "min_tokens",
        ),
    )


def chat_request(body: Body) -> GenerateRequest:
    grammar, param = structured.of_openai(body)
    return GenerateRequest(
        CHAT,
        body["model"],
        sampling(body),
        messages=tuple(map(template_message, body["messages"])),
        grammar=grammar,
        grammar_param=param,
        tools=tools_of(body),
        thinking=(body.get("chat_template_kwargs") or {}).get("enable_thinking"),
    )


def template_message(message: Body) -> Json:
    """A message as chat templates know it: `developer` is their `system`, content is text, arguments are objects."""
    role = "system" if message["role"] == "developer" else message["role"]
    found: Json = {"role": role, "content": message["content"] or ""}
    if message.get("tool_calls"):
        found["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": arguments_of(call["function"]["arguments"])}}
            for call in message["tool_calls"]
        ]
    return {**found, **given(message, "tool_call_id", "reasoning_content")}


def completion_request(body: Body) -> GenerateRequest:
    return GenerateRequest(COMPLETIONS, body["model"], sampling(body), prompt=body["prompt"], param="prompt")


def embeddings_request(body: Body) -> EmbedRequest:
    dimensions = body.get("dimensions") or 0
    answer = {"dimensions": dimensions, "encoding_format": body.get("encoding_format") or "float"}
    return EmbedRequest(EMBEDDINGS, body["model"], body["input"], dimensions=dimensions, answer=answer)


# --- answers


def created_s(job: Job) -> int:
    return job.created_ms // 1000


def usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _frame(job: Job, prefix: str, kind: str) -> Json:
    return {
        "id": prefix + job.id.removeprefix("job_"),
        "object": kind,
        "created": created_s(job),
        "model": job.model,
    }


def chat_result(job: Job) -> Json:
    assert job.outcome is not None
    answer = answer_of(job)
    message: Json = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.thoughts:
        message["reasoning_content"] = answer.thoughts
    if answer.calls:
        message["content"] = answer.text or None
        message["tool_calls"] = [tool_call(call) for call in answer.calls]
    reason = finish_reason(job, len(answer.calls))
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    body = {**_frame(job, "chatcmpl-", "chat.completion"), "choices": [choice], "usage": usage(job.outcome.usage)}
    return _with_incomplete(job, body)


def tool_call(call: Call) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def completion_result(job: Job) -> Json:
    assert job.outcome is not None
    outcome = job.outcome
    choice = {"index": 0, "text": outcome.text, "logprobs": None, "finish_reason": outcome.finish_reason}
    body = {**_frame(job, "cmpl-", "text_completion"), "choices": [choice], "usage": usage(outcome.usage)}
    return _with_incomplete(job, body)


def _with_incomplete(job: Job, body: Json) -> Json:
    """Says of a text that its deadline cut, in the words of OpenAI's Responses."""
    if job.state == "incomplete" and job.error:
        body["incomplete_details"] = {"reason": job.error.code}
    return body


def embeddings_result(job: Job) -> Json:
    assert job.outcome is not None
    dimensions = job.answer.get("dimensions", 0)
    write = cut if job.answer.get("encoding_format") == "base64" else floats
    data = [
        {"object": "embedding", "index": index, "embedding": write(vector, dimensions)}
        for index, vector in enumerate(job.outcome.vectors)
    ]
    tokens = job.outcome.usage.prompt_tokens
    return {
        "object": "list",
        "data": data,
        "model": job.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def floats(vector: str, dimensions: int = 0) -> Sequence[float]:
    """The numbers of a vector in base64 of little-endian float32; the first `dimensions` of them, again of length 1."""
    raw = base64.b64decode(vector)
    numbers = struct.unpack(f"<{len(raw) // 4}f", raw)
    if not 0 < dimensions < len(numbers):
        return numbers
    head = numbers[:dimensions]
    norm = sum(x * x for x in head) ** 0.5 or 1.0
    return tuple(x / norm for x in head)


def cut(vector: str, dimensions: int) -> str:
    """A vector in base64, cut as `floats` does."""
    if not dimensions:
        return vector
    numbers = floats(vector, dimensions)
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode("ascii")


# --- streams


class SSE(Stream):
    """Server-sent events with the chunks of chat or plain completions."""

    media_type = "text/event-stream"

    def __init__(self, job: Job, body: Body) -> None:
        self._chat = job.endpoint == CHAT
        self._frame = (
            _frame(job, "chatcmpl-", "chat.completion.chunk") if self._chat else _frame(job, "cmpl-", "text_completion")
        )
        self._with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        # All token chunks are alike but for the text: written once a stream, not once a token.
        mark = "\x00"
        self._before, _, self._after = self._chunk({"content": mark}, mark).partition(json.dumps(mark))

    def opening(self) -> str:
        return self._chunk({"role": "assistant", "content": ""}, "") if self._chat else ""

    def token(self, text: str) -> str:
        return self._before + json.dumps(text, ensure_ascii=False) + self._after

    def thought(self, text: str) -> str:
        return self._chunk({"reasoning_content": text}, "")

    def call(self, call: Call) -> str:
        return self._chunk({"tool_calls": [{"index": call.index, **tool_call(call)}]}, "")

    def waiting(self, note: str) -> str:
        return f": {note}\n\n"

    def end(self, job: Job, calls: int = 0) -> str:
        assert job.outcome is not None
        last = self._chunk({}, "", finish_reason(job, calls), job)
        if self._with_usage:
            last += data({**self._frame, "choices": [], "usage": usage(job.outcome.usage)})
        return last + "data: [DONE]\n\n"

    def error(self, problem: Problem) -> str:
        return data(openai_body(problem))

    def _chunk(self, delta: Json, text: str, finish_reason: str | None = None, ended: Job | None = None) -> str:
        part = {"delta": delta} if self._chat else {"text": text}
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish_reason}
        usage_so_far: Json = {"usage": None} if self._with_usage else {}
        body = {**self._frame, "choices": [choice], **usage_so_far}
        return data(_with_incomplete(ended, body) if ended else body)


def data(body: Any) -> str:
    """One server-sent event without a name."""
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


# --- models


def model_object(model: OfferedModel) -> Json:
    created = model.manifest.created_s if model.manifest else 0
    return {"id": model.name, "object": "model", "created": created, "owned_by": "npu-proxy"}


OPERATIONS = (
    Operation(CHAT, schemas.ChatCompletion(), chat_request, chat_result, SSE),
    Operation(COMPLETIONS, schemas.Completion(), completion_request, completion_result, SSE),
    Operation(EMBEDDINGS, schemas.Embeddings(), embeddings_request, embeddings_result),
)
