"""The official `ollama` client, and its lines as they are on the wire."""

import json

import ollama
import pytest

from tests.e2e.servers import FAKE_EMBED, FAKE_LLM

HELLO = [{"role": "user", "content": "Hello"}]
THREE = {"num_predict": 3}


def test_chat(ollama_client):
    answer = ollama_client.chat(FAKE_LLM, HELLO, options=THREE)
    assert answer.message.content == " 1 2 3"
    assert (answer.done, answer.done_reason) == (True, "length")
    assert (answer.prompt_eval_count, answer.eval_count) == (2, 3)
    assert answer.total_duration >= answer.eval_duration + answer.prompt_eval_duration > 0


def test_chat_stream(ollama_client):
    *parts, last = ollama_client.chat(FAKE_LLM, HELLO, options=THREE, stream=True)
    assert "".join(p.message.content for p in parts) == " 1 2 3"
    assert not any(p.done for p in parts)
    assert last.done and last.message.content == "" and last.eval_count == 3


def test_generate(ollama_client):
    assert ollama_client.generate(FAKE_LLM, "Hello there", options=THREE).response == " 1 2 3"
    parts = list(ollama_client.generate(FAKE_LLM, "Hello", system="Be brief.", options=THREE, stream=True))
    assert "".join(p.response for p in parts) == " 1 2 3"
    assert parts[-1].prompt_eval_count == 5
    assert ollama_client.generate(FAKE_LLM, "One", raw=True, options=THREE).prompt_eval_count == 1


def test_an_empty_prompt_loads_the_model(ollama_client):
    assert ollama_client.generate(FAKE_LLM).done_reason == "load"
    assert ollama_client.chat(FAKE_LLM).done_reason == "load"


def test_embed(ollama_client):
    answer = ollama_client.embed(FAKE_EMBED, ["one", "two words"])
    assert len(answer.embeddings) == 2
    assert answer.prompt_eval_count == 3
    assert answer.embeddings[0] == ollama_client.embed(FAKE_EMBED, "one").embeddings[0]
    assert len(ollama_client.embed(FAKE_EMBED, "one", dimensions=3).embeddings[0]) == 3
    assert ollama_client.embed(FAKE_EMBED, "").embeddings == []


def test_a_text_too_long_is_cut_unless_that_is_not_wanted(ollama_client):
    long = "word " * 9000
    assert ollama_client.embed(FAKE_EMBED, long).prompt_eval_count == 8192
    with pytest.raises(ollama.ResponseError, match="at most 8192") as refused:
        ollama_client.embed(FAKE_EMBED, long, truncate=False)
    assert refused.value.status_code == 400


def test_list(ollama_client):
    assert [m.model for m in ollama_client.list().models] == [FAKE_LLM, FAKE_EMBED]


def test_errors(ollama_client):
    with pytest.raises(ollama.ResponseError) as missing:
        ollama_client.chat("nope", HELLO)
    assert (missing.value.error, missing.value.status_code) == ("model 'nope' not found", 404)
    with pytest.raises(ollama.ResponseError, match="temperature"):
        ollama_client.chat(FAKE_LLM, HELLO, options={"temperature": -1})
    with pytest.raises(ollama.ResponseError, match="images"):
        ollama_client.chat(FAKE_LLM, [{"role": "user", "content": "x", "images": [b"x"]}])


def test_every_line_is_an_object_and_null_means_the_default(http):
    body = {"model": FAKE_LLM, "messages": HELLO, "options": THREE, "stream": None}
    with http.stream("POST", "/api/chat", json=body) as response:
        assert response.headers["Content-Type"].startswith("application/x-ndjson")
        lines = [json.loads(line) for line in response.iter_lines()]
    assert [line["done"] for line in lines] == [False, False, False, True]
    assert all(line["model"] == FAKE_LLM and line["created_at"].endswith("Z") for line in lines)


def test_it_says_that_it_runs(http):
    assert http.get("/").text == "Ollama is running"
    assert http.head("/").status_code == 200
    assert "version" in http.get("/api/version").json()
