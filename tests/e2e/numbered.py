"""Reading the fake engine's streams: " 1 2 3 …", so a token that is lost, doubled or out of order shows."""

import asyncio
import json

import httpx

from tests.e2e.servers import FAKE_LLM


def fault(pieces: list[str], count: int) -> str | None:
    """What is wrong with a streamed answer of `count` tokens; None when it is whole."""
    numbers = "".join(pieces).split()
    for at, (found, expected) in enumerate(zip(numbers, map(str, range(1, count + 1)), strict=False)):
        if found != expected:
            return f"{found!r} in place {at + 1}"
    return None if len(numbers) == count else f"{len(numbers)} tokens for {count}"


async def read_streams(url: str, streams: int, count: int) -> list[str | None]:
    """Open that many streams of `count` tokens at once, in the three dialects by turns; the fault of each."""
    limits = httpx.Limits(max_connections=streams)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        readers = (_openai_chat, _openai_text, _ollama_chat)
        return await asyncio.gather(*(readers[n % 3](client, count) for n in range(streams)))


async def _openai_chat(client: httpx.AsyncClient, count: int) -> str | None:
    body = {"messages": [{"role": "user", "content": "count"}]}
    chunks = await _sse(client, "/v1/chat/completions", body, count)
    return fault([c["choices"][0]["delta"].get("content", "") for c in chunks], count)


async def _openai_text(client: httpx.AsyncClient, count: int) -> str | None:
    chunks = await _sse(client, "/v1/completions", {"prompt": "count"}, count)
    return fault([c["choices"][0]["text"] for c in chunks], count)


async def _sse(client: httpx.AsyncClient, path: str, body: dict, count: int) -> list[dict]:
    whole = {"model": FAKE_LLM, "stream": True, "max_tokens": count, **body}
    async with client.stream("POST", path, json=whole) as response:
        assert response.status_code == 200
        lines = [line async for line in response.aiter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


async def _ollama_chat(client: httpx.AsyncClient, count: int) -> str | None:
    messages = [{"role": "user", "content": "count"}]
    body = {"model": FAKE_LLM, "messages": messages, "options": {"num_predict": count}}
    async with client.stream("POST", "/api/chat", json=body) as response:
        assert response.status_code == 200
        chunks = [json.loads(line) async for line in response.aiter_lines()]
    assert [c["done"] for c in chunks] == [False] * (len(chunks) - 1) + [True]
    return fault([c["message"]["content"] for c in chunks], count)
