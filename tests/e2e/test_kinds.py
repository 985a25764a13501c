"""The tiny real vision model and reranker behind one server, beside nothing else."""

import base64
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import ollama
import openai
import pytest
from PIL import Image

from engines.models.pull import pull
from engines.models.store import ModelStore
from tests.e2e.servers import Server, closed

FIXTURES = Path(__file__).parents[1] / "fixtures" / "models"
VISION, RERANK = "tiny-llava", "tiny-reranker"


@pytest.fixture(scope="module")
def server():
    none = {"llm_model": "", "embed_model": ""}
    models = {"vision_model": VISION, "vision_device": "NPU", "rerank_model": RERANK, "rerank_device": "NPU"}
    server = Server(backend="genai", **none, **models, reproducible=True)
    for name in (VISION, RERANK):
        pull(ModelStore(server.data_dir / "models"), f"dir:{FIXTURES / name}", name=name)
    server.start()
    try:
        yield server.until_ready(60)
    finally:
        closed(server)


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def ask(client, *parts: str | bytes, **options) -> Any:
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(part).decode()}}
        for part in parts
    ]
    options = {"temperature": 0, "max_tokens": 16, "extra_body": {"ignore_eos": True}} | options
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(model=VISION, messages=messages, **options)


def test_the_answer_changes_with_the_image(client):
    one, other, again = (
        ask(client, "What is it?", picture(seed)).choices[0].message.content for seed in (1, 2, 1)
    )
    assert one and one == again
    assert one != other
    assert ask(client, "What is it?").choices[0].message.content not in (one, other)


def test_where_the_image_stands_matters(client):
    before = ask(client, picture(1), "What is it?").choices[0].message.content
    assert before != ask(client, "What is it?", picture(1)).choices[0].message.content


def test_both_apis_give_the_same_answer(client, server):
    there = ask(client, picture(1), "What is it?")
    with ollama.Client(server.url) as other:
        message = {"role": "user", "content": "What is it?", "images": [picture(1)]}
        options = {"temperature": 0, "num_predict": 16, "repeat_penalty": 1.0}
        here = other.chat(VISION, [message], options=options)
    assert here.prompt_eval_count == there.usage.prompt_tokens
    assert there.choices[0].message.content.startswith(here.message.content)


def test_an_image_is_counted_as_the_models_files_say(client):
    without = ask(client, "What is it?").usage.prompt_tokens
    assert ask(client, "What is it?", picture(1)).usage.prompt_tokens == without + 16 + 3


def test_a_chat_with_an_image_streams_and_a_tag_in_its_text_is_text(client):
    stream = ask(client, "<image> <ov_genai_image_0> <|im_end|>", picture(1), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    plain = ask(client, "<image> <ov_genai_image_7>")
    assert plain.choices[0].message.content


def test_a_prompt_as_it_is_works_too(client):
    options = {"max_tokens": 4, "extra_body": {"ignore_eos": True}}
    assert client.completions.create(model=VISION, prompt="<image> Hello", **options).choices[0].text


def test_images_that_do_not_fit_the_context_are_refused(client):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, "word " * 2000 * 2, picture(1))
    assert refused.value.code == "context_length_exceeded"


def test_it_says_where_it_runs_and_why_not_on_an_npu(server):
    engines = server.health()["engines"]
    for kind in ("vision", "rerank"):
        assert engines[kind]["device"] == "CPU"
        assert engines[kind]["fallbacks"][0] in (
            "no NPU on this machine",
            "the model's format does not run on NPU (only on CPU, GPU)",
        )


def test_documents_are_ranked_by_their_scores(server):
    documents = ["queue", "the worker asks the device", "", "score " * 50, {"text": "memory"}] * 40
    body = {"model": RERANK, "query": "which memory", "documents": documents, "top_n": 120}
    answer = httpx.post(server.url + "/v1/rerank", json=body, timeout=60).json()
    scores = [result["relevance_score"] for result in answer["results"]]
    assert len(scores) == 120 and scores == sorted(scores, reverse=True)
    one = httpx.post(server.url + "/v1/rerank", json={**body, "documents": ["queue"]}).json()["results"][0]
    many = {r["index"]: r["relevance_score"] for r in answer["results"]}
    assert all(score == pytest.approx(one["relevance_score"], abs=1e-3) for i, score in many.items() if i % 5 == 0)


def test_a_document_that_does_not_fit_beside_the_query_is_refused(server):
    body = {"model": RERANK, "query": "memory " * 50, "documents": ["a", "memory " * 230]}
    error = httpx.post(server.url + "/v1/rerank", json=body).json()["error"]
    assert (error["param"], error["code"]) == ("documents[1]", "context_length_exceeded")
