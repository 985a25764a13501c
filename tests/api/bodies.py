"""Valid bodies of every endpoint that takes one, and what an answer that refuses must look like."""

from typing import Any

import httpx

from tests.e2e.servers import FAKE_EMBED, FAKE_LLM

FAKE_RERANK, FAKE_VISION = "bge-reranker", "internvl2:1b"

SAMPLING = {
    "max_tokens": 2,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ["zzz"],
    "seed": 1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "user": "ann",
    "top_k": 5,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "ignore_eos": False,
    "min_tokens": 0,
    "stop_token_ids": [7],
    "stream": False,
    "stream_options": {"include_usage": False},
}
OPTIONS = {
    "num_predict": 2,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.1,
    "repeat_penalty": 1.1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "stop": ["zzz"],
    "seed": 1,
}
CHAT: dict[str, Any] = {
    "model": FAKE_LLM,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    ],
    "max_completion_tokens": 2,
    "tools": [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {}}}},
        }
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "chat_template_kwargs": {"enable_thinking": False},
    "response_format": {"type": "text"},
    "metadata": {"a": "b"},
    **SAMPLING,
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": FAKE_LLM, "prompt": "Hello", **SAMPLING},
    "/v1/embeddings": {
        "model": FAKE_EMBED,
        "input": ["a", "b"],
        "encoding_format": "float",
        "dimensions": 4,
        "user": "u",
    },
    "/v1/rerank": {
        "model": FAKE_RERANK,
        "query": "red fox",
        "documents": ["a dog", {"text": "the red fox"}, "a fox"],
        "top_n": 2,
        "return_documents": True,
        "user": "u",
    },
    "/api/chat": {
        "model": FAKE_LLM,
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "thinking": "x", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
            {"role": "tool", "tool_name": "f", "content": "1"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "think": False,
        "stream": False,
        "options": OPTIONS,
    },
    "/api/generate": {
        "model": FAKE_LLM,
        "prompt": "Hello",
        "system": "Be brief.",
        "raw": False,
        "format": {"type": "object", "properties": {"a": {"enum": [1]}}, "pattern": "(a)"},
        "think": True,
        "stream": False,
        "options": OPTIONS,
    },
    "/api/embed": {"model": FAKE_EMBED, "input": ["a", "b"], "truncate": True, "dimensions": 4},
    "/v1/jobs": {
        "endpoint": "/v1/completions",
        "body": {"model": FAKE_LLM, "prompt": "Hello", **SAMPLING},
        "timeout": 5,
        "queue_timeout": 5,
        "lane": "interactive",
        "metadata": {"a": "b"},
    },
}


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of an answer, as OpenAI has it; fails unless its shape is that of the path's dialect."""
    body = response.json()
    if response.request.url.path.startswith("/api/"):
        assert list(body) == ["error"] and isinstance(body["error"], str) and body["error"]
        return {"message": body["error"]}
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert isinstance(error["message"], str) and error["message"]
    assert "Traceback" not in error["message"] and "/work" not in error["message"]
    return error


def newest_job(http: httpx.Client) -> str | None:
    """The id of the last job that was accepted."""
    first: str | None = http.get("/v1/jobs", params={"limit": 1}).json()["first_id"]
    return first


def waiting(http: httpx.Client) -> int:
    """Jobs in all queues."""
    return sum(engine["waiting"] for engine in http.get("/health").json()["engines"].values())
