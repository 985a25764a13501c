"""The official `openai` client, and its types applied without leniency."""

import base64
import json
import struct

import openai
import pytest
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from engines.fake import DIMENSIONS, fake_vector
from tests.e2e.servers import FAKE_EMBED, FAKE_LLM

HELLO = [{"role": "user", "content": "Hello"}]


def sse(response):
    """The JSON of each event, and whether [DONE] came last."""
    lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"], lines[-1] == "[DONE]"


def test_chat(openai_client):
    answer = openai_client.chat.completions.create(model=FAKE_LLM, messages=HELLO, max_completion_tokens=3)
    assert answer.choices[0].message.content == " 1 2 3"
    assert answer.choices[0].finish_reason == "length"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (2, 3, 5)


def test_chat_stream(openai_client):
    stream = openai_client.chat.completions.create(model=FAKE_LLM, messages=HELLO, max_tokens=4, stream=True)
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == " 1 2 3 4"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1


def test_stream_with_usage(openai_client):
    stream = openai_client.chat.completions.create(
        model=FAKE_LLM, messages=HELLO, max_tokens=4, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    assert all(c.usage is None for c in chunks)
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (2, 4)


def test_a_conversation_with_every_role_and_content_form(openai_client):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = openai_client.chat.completions.create(
        model=FAKE_LLM,
        max_tokens=1,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "user", "content": "And?"},
        ],
    )
    assert answer.choices[0].message.content == " 1"


def test_completions(openai_client):
    answer = openai_client.completions.create(model=FAKE_LLM, prompt="Hello there", max_tokens=2)
    assert answer.choices[0].text == " 1 2"
    assert answer.usage.prompt_tokens == 2
    chunks = openai_client.completions.create(model=FAKE_LLM, prompt=["Hello"], max_tokens=2, stream=True)
    assert "".join(c.choices[0].text for c in chunks) == " 1 2"


def test_embeddings_by_the_clients_default_and_as_numbers(openai_client):
    texts = ["one", "two"]
    packed = openai_client.embeddings.create(model=FAKE_EMBED, input=texts)
    plain = openai_client.embeddings.create(model=FAKE_EMBED, input=texts, encoding_format="float")
    assert [d.index for d in packed.data] == [0, 1]
    assert [d.embedding for d in packed.data] == [d.embedding for d in plain.data]
    raw = base64.b64decode(fake_vector("two"))
    assert plain.data[1].embedding == list(struct.unpack(f"<{DIMENSIONS}f", raw))
    assert packed.usage.prompt_tokens == packed.usage.total_tokens == 2


def test_embeddings_of_token_ids_and_of_fewer_dimensions(openai_client):
    by_ids = openai_client.embeddings.create(model=FAKE_EMBED, input=[[1, 2], [3]], encoding_format="float")
    assert len(by_ids.data) == 2
    short = openai_client.embeddings.create(model=FAKE_EMBED, input="one", dimensions=3)
    assert len(short.data[0].embedding) == 3
    assert sum(x * x for x in short.data[0].embedding) == pytest.approx(1)


def test_models(openai_client):
    assert [m.id for m in openai_client.models.list()] == [FAKE_LLM, FAKE_EMBED]
    assert openai_client.models.retrieve(FAKE_LLM).id == FAKE_LLM
    assert openai_client.models.retrieve(FAKE_EMBED + ":latest").id == FAKE_EMBED


def test_errors_are_the_clients_own_classes(openai_client):
    with pytest.raises(openai.NotFoundError) as missing:
        openai_client.chat.completions.create(model="nope", messages=HELLO)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as bad:
        openai_client.chat.completions.create(model=FAKE_LLM, messages=HELLO, temperature=3)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as long:
        openai_client.chat.completions.create(model=FAKE_LLM, messages=[{"role": "user", "content": "a " * 9000}])
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "messages")
    assert "8191" in str(long.value)


@pytest.mark.parametrize("stream_options", [None, {"include_usage": True}])
def test_every_chat_chunk_is_strictly_one(http, stream_options):
    body = {"model": FAKE_LLM, "messages": HELLO, "max_tokens": 5, "stream": True, "stream_options": stream_options}
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        chunks, done = sse(response)
    assert done
    assert all(("usage" in c) == bool(stream_options) for c in chunks)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)


def test_every_object_is_strictly_one(http):
    chat = http.post("/v1/chat/completions", json={"model": FAKE_LLM, "messages": HELLO, "max_tokens": 2})
    ChatCompletion.model_validate(chat.json(), strict=True)
    text = http.post("/v1/completions", json={"model": FAKE_LLM, "prompt": "x", "max_tokens": 2})
    Completion.model_validate(text.json(), strict=True)
    vectors = http.post("/v1/embeddings", json={"model": FAKE_EMBED, "input": "x"})
    CreateEmbeddingResponse.model_validate(vectors.json(), strict=True)
    for model in http.get("/v1/models").json()["data"]:
        Model.model_validate(model, strict=True)


def test_every_text_chunk_is_strictly_one_but_for_the_reason_that_openai_sends_as_null(http):
    body = {"model": FAKE_LLM, "prompt": "x", "max_tokens": 3, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as response:
        chunks, done = sse(response)
    assert done
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None, None, None, "length"]
    for chunk in chunks:
        chunk["choices"][0]["finish_reason"] = "length"
        Completion.model_validate(chunk, strict=True)


def test_a_stream_says_what_runs_it_in_its_headers(http):
    body = {"model": FAKE_LLM, "messages": HELLO, "max_tokens": 1, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body, headers={"X-Request-Id": "mine-1"}) as response:
        response.read()
    assert response.headers["X-Request-Id"] == "mine-1"
    assert response.headers["X-NPU-Proxy-Job"].startswith("job_")
    assert response.headers["X-NPU-Proxy-Device"] == "CPU"
    assert response.headers["X-NPU-Proxy-Model"] == FAKE_LLM
    assert response.headers["X-NPU-Proxy-Token-Count"] == "2"
    assert int(response.headers["X-NPU-Proxy-Queue-Ms"]) < 1000
