"""Ollama's endpoints. Wire: its `docs/api.md` and the types of the official `ollama` Python client."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from api.answers.reader import Call, answer_of
from api.dialects import structured
from api.dialects.base import Body, Json, Operation, Stream, given
from api.dialects.openai import floats
from api.dialects.tools import tools_of, with_ids
from api.errors import Problem, ollama_body
from api.schemas import ollama as schemas
from api.schemas.fields import Picture
from jobs.models import OfferedModel
from jobs.record import Job
from jobs.request import EmbedRequest, GenerateRequest, Sampling

CHAT = "/api/chat"
GENERATE = "/api/generate"
EMBED = "/api/embed"

#: More than any context holds: as much as fits.
UNLIMITED_TOKENS = 2**31 - 1
NS_PER_MS = 1_000_000


# --- requests


def sampling(body: Body) -> Sampling:
    """From `options`, with Ollama's defaults (docs/modelfile.md), which are not OpenAI's."""
    options = body.get("options") or {}
    wanted = options.get("num_predict") or 0
    return Sampling(
        max_tokens=UNLIMITED_TOKENS if wanted < 0 else wanted,
        repetition_penalty=options.get("repeat_penalty") or 1.1,
        **{
            "temperature": 0.8,
            "top_p": 0.9,
            "top_k": 40,
            **given(
                options,
                "temperature",
                "top_p",
                "top_k",
                "min_p",
                "seed",
                "stop",
                "presence_penalty",
                "frequency_penalty",
            ),
        },
    )


def chat_request(body: Body) -> GenerateRequest:
    grammar, param = structured.of_ollama(body)
    return GenerateRequest(
        CHAT,
        body["model"],
        sampling(body),
        messages=with_ids(map(template_message, body["messages"])),
        grammar=grammar,
        grammar_param=param,
        tools=tools_of(body),
        thinking=thinking(body),
    )


def template_message(message: Body) -> Json:
    """A message as chat templates know it."""
    found: Json = {"role": message["role"], "content": content(message["content"] or "", message)}
    if message.get("tool_calls"):
        found["tool_calls"] = [{"type": "function", "function": call["function"]} for call in message["tool_calls"]]
    if message.get("thinking"):
        found["reasoning_content"] = message["thinking"]
    if message.get("tool_name"):
        found["name"] = message["tool_name"]
    return found


def thinking(body: Body) -> bool | None:
    """Levels, which some models know, are as good as yes."""
    wanted = body.get("think")
    return None if wanted is None else bool(wanted)


def content(text: str, body: Body) -> str | tuple[str | Picture, ...]:
    """A text with the images that came beside it, which Ollama puts before it."""
    images = body.get("images") or ()
    pictures = [Picture(image, False, f"images[{index}]") for index, image in enumerate(images)]
    return (*pictures, text) if pictures else text


def generate_request(body: Body) -> GenerateRequest:
    """`raw` takes the prompt as it is; else the chat template is put around it, and around `system`."""
    grammar, param = structured.of_ollama(body)
    request = GenerateRequest(
        GENERATE, body["model"], sampling(body), param="prompt", grammar=grammar, grammar_param=param
    )
    if body.get("raw"):
        return replace(request, prompt=body["prompt"])
    request = replace(request, thinking=thinking(body))
    system = ({"role": "system", "content": body["system"]},) if body.get("system") else ()
    return replace(request, messages=(*system, {"role": "user", "content": content(body["prompt"], body)}))


def embed_request(body: Body) -> EmbedRequest:
    dimensions = body.get("dimensions") or 0
    truncate = body.get("truncate") is not False
    return EmbedRequest(EMBED, body["model"], body["input"], truncate, dimensions, answer={"dimensions": dimensions})


# --- answers


def timestamp(unix_ms: int) -> str:
    """RFC 3339 in UTC."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def _text(endpoint: str, text: str, thoughts: str = "", calls: Sequence[Call] = ()) -> Json:
    more: Json = {"thinking": thoughts} if thoughts else {}
    if endpoint != CHAT:
        return {"response": text, **more}
    if calls:
        more["tool_calls"] = [
            {"id": c.id, "function": {"index": c.index, "name": c.name, "arguments": json.loads(c.arguments)}}
            for c in calls
        ]
    return {"message": {"role": "assistant", "content": text, **more}}


def _counters(job: Job) -> Json:
    """Real counts and times: of waiting and running together, of the prompt, and of the generation."""
    assert job.outcome is not None
    usage = job.outcome.usage
    return {
        "done": True,
        "done_reason": job.outcome.finish_reason,
        "total_duration": (job.ended_ms - job.created_ms) * NS_PER_MS,
        "load_duration": 0,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": usage.prompt_ms * NS_PER_MS,
        "eval_count": usage.completion_tokens,
        "eval_duration": usage.completion_ms * NS_PER_MS,
    }


def _frame(job: Job, at_ms: int) -> Json:
    return {"model": job.model, "created_at": timestamp(at_ms)}


def text_result(job: Job) -> Json:
    answer = answer_of(job)
    text = _text(job.endpoint, answer.text, answer.thoughts, answer.calls)
    return {**_frame(job, job.ended_ms), **text, **_counters(job)}


def embed_result(job: Job) -> Json:
    assert job.outcome is not None
    return {
        "model": job.model,
        "embeddings": [floats(v, job.answer.get("dimensions", 0)) for v in job.outcome.vectors],
        "total_duration": (job.ended_ms - job.created_ms) * NS_PER_MS,
        "load_duration": 0,
        "prompt_eval_count": job.outcome.usage.prompt_tokens,
    }


def _loaded(endpoint: str, body: Body) -> Json:
    """What an empty prompt answers. The model is loaded already: workers load before they take work."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {"model": body["model"], "created_at": now, **_text(endpoint, ""), "done": True, "done_reason": "load"}


def chat_shortcut(body: Body) -> Json | None:
    return None if body["messages"] else _loaded(CHAT, body)


def embed_shortcut(body: Body) -> Json | None:
    if body["input"]:
        return None
    return {"model": body["model"], "embeddings": [], "total_duration": 0, "load_duration": 0, "prompt_eval_count": 0}


def generate_shortcut(body: Body) -> Json | None:
    return None if body["prompt"] or body.get("system") or body.get("images") else _loaded(GENERATE, body)


# --- streams


class NDJSON(Stream):
    """A JSON object a line. Clients parse every line, so even a keep-alive is a whole chunk, with no text."""

    media_type = "application/x-ndjson"

    def __init__(self, job: Job, body: Body) -> None:
        self._job = job

    def opening(self) -> str:
        return ""

    def token(self, text: str) -> str:
        return self._chunk(text)

    def thought(self, text: str) -> str:
        return self._chunk("", text)

    def call(self, call: Call) -> str:
        return self._chunk("", "", [call])

    def _chunk(self, text: str, thoughts: str = "", calls: Sequence[Call] = ()) -> str:
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        said = _text(self._job.endpoint, text, thoughts, calls)
        return _line({**_frame(self._job, now_ms), **said, "done": False})

    def waiting(self, note: str) -> str:
        return self.token("")

    def end(self, job: Job, calls: int = 0) -> str:
        return _line({**_frame(job, job.ended_ms), **_text(job.endpoint, ""), **_counters(job)})

    def error(self, problem: Problem) -> str:
        return _line(ollama_body(problem))


def _line(body: Any) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")) + "\n"


# --- models


def model_entry(model: OfferedModel) -> Json:
    """An entry of `/api/tags`."""
    manifest = model.manifest
    details = {
        "parent_model": "",
        "format": manifest.format if manifest else "fake",
        "family": manifest.family if manifest else "fake",
        "families": [manifest.family if manifest else "fake"],
        "parameter_size": manifest.parameter_size if manifest else "",
        "quantization_level": manifest.quantization if manifest else "",
    }
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": timestamp(1000 * manifest.created_s if manifest else 0),
        "size": manifest.size_bytes if manifest else 0,
        "digest": manifest.digest if manifest else "",
        "details": details,
    }


OPERATIONS = (
    Operation(CHAT, schemas.Chat(), chat_request, text_result, NDJSON, chat_shortcut),
    Operation(GENERATE, schemas.Generate(), generate_request, text_result, NDJSON, generate_shortcut),
    Operation(EMBED, schemas.Embed(), embed_request, embed_result, shortcut=embed_shortcut),
)
