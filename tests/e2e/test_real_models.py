"""The two small real models through the official clients."""

import threading
import time

import httpx
import ollama
import openai
import psutil
import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.model

LLM, EMBED = "smollm2:135m", "all-minilm"
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
MAX_API_BYTES = 400 * 2**20


@pytest.fixture
def client(real_server):
    with openai.OpenAI(base_url=real_server.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


def test_it_knows_the_capital_of_france(client):
    answer = client.chat.completions.create(model=LLM, messages=CAPITAL, temperature=0, max_tokens=24)
    assert "Paris" in answer.choices[0].message.content
    assert answer.usage.prompt_tokens > 10


def test_a_stream_is_the_same_text_in_both_dialects(client, real_server):
    stream = client.chat.completions.create(model=LLM, messages=CAPITAL, temperature=0, max_tokens=40, stream=True)
    pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content is not None]
    whole = client.chat.completions.create(model=LLM, messages=CAPITAL, temperature=0, max_tokens=40)
    assert "".join(pieces) == whole.choices[0].message.content
    assert "" not in pieces[1:]
    options = {"temperature": 0, "num_predict": 40, "repeat_penalty": 1.0}
    with ollama.Client(real_server.url) as other:
        parts = list(other.chat(LLM, CAPITAL, options=options, stream=True))
    assert "".join(p.message.content for p in parts) == whole.choices[0].message.content
    assert parts[-1].done_reason == whole.choices[0].finish_reason


def test_a_cat_is_nearer_to_a_kitten_than_to_the_stock_market(client):
    cat, kitten, market = (
        d.embedding for d in client.embeddings.create(model=EMBED, input=["cat", "kitten", "stock market"]).data
    )
    assert len(cat) == 384

    def nearness(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert nearness(cat, cat) == pytest.approx(1, abs=1e-3)
    assert nearness(cat, kitten) > nearness(cat, market) + 0.2


def test_an_embedding_does_not_wait_for_chats(client, real_server):
    client.embeddings.create(model=EMBED, input="warm")
    stop = threading.Event()
    begun = threading.Barrier(3)

    def chat():
        body = {"model": LLM, "messages": CAPITAL, "max_tokens": 2000, "stream": True, "ignore_eos": True}
        with httpx.stream("POST", real_server.url + "/v1/chat/completions", json=body, timeout=60) as response:
            for n, line in enumerate(response.iter_lines()):
                if n == 8:
                    begun.wait(60)
                if stop.is_set() or "[DONE]" in line:
                    return

    chats = [threading.Thread(target=chat) for _ in range(2)]
    for thread in chats:
        thread.start()
    begun.wait(60)
    until(lambda: real_server.health()["engines"]["llm"]["running"] == 2, what="two chats at once")
    asked = time.monotonic()
    client.embeddings.create(model=EMBED, input="Does this wait?")
    took = time.monotonic() - asked
    still_running = [thread.is_alive() for thread in chats]
    stop.set()
    for thread in chats:
        thread.join(60)
    assert still_running == [True, True]
    assert took < 3


def test_a_prompt_beyond_the_context_is_refused_with_the_limit(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=LLM, messages=[{"role": "user", "content": "word " * 20_000}])
    assert refused.value.code == "context_length_exceeded"


def test_the_api_holds_both_tokenizers_in_little_memory(client, real_server):
    client.embeddings.create(model=EMBED, input=["word " * 200] * 20)
    worker = real_server.api_pids()[-1]
    assert psutil.Process(worker).memory_info().rss < MAX_API_BYTES
