"""A real engine with the tiny model, whose template takes tools: what it must call, it calls, whatever its weights."""

import json
import subprocess
import sys

import ollama
import openai
import pytest

from tests.e2e.servers import Server, closed, environment
from tests.engines.test_llm import FOLDER
from tests.support.workers import ROOT

TINY = "tiny"
ASK = [{"role": "user", "content": "What is 1 and 2?"}]
PARAMETERS = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 150}, "unit": {"enum": ["m", "km"]}},
    "required": ["a", "unit"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "add", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}}},
]
ADD = {"type": "function", "function": {"name": "add"}}


@pytest.fixture(scope="module")
def tiny():
    server = Server(backend="genai", llm_model=TINY, embed_model="")
    pulled = subprocess.run(
        [sys.executable, "-m", "cli", "pull", f"dir:{FOLDER}", "--name", TINY],
        cwd=ROOT,
        env=environment(data_dir=server.data_dir),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert pulled.returncode == 0, pulled.stderr
    server.start()
    try:
        yield server.until_ready(120)
    finally:
        closed(server)


@pytest.fixture
def client(tiny):
    with openai.OpenAI(base_url=tiny.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("seed", range(5))
def test_a_named_function_is_called_with_arguments_of_its_schema(client, seed):
    answer = client.chat.completions.create(model=TINY, messages=ASK, tools=TOOLS, tool_choice=ADD, seed=seed)
    [call] = answer.choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "add" and set(arguments) == {"a", "unit"}
    assert 0 <= arguments["a"] <= 150 and arguments["unit"] in ("m", "km")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (None, "tool_calls")


@pytest.mark.parametrize("stream", [False, True])
def test_a_required_call_is_one_of_the_tools(client, stream):
    asked = {"model": TINY, "messages": ASK, "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    if stream:
        chunks = list(client.chat.completions.create(**asked, stream=True))
        calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
    else:
        calls = client.chat.completions.create(**asked).choices[0].message.tool_calls
    [call] = calls
    assert call.function.name in ("add", "stop")
    assert isinstance(json.loads(call.function.arguments), dict)


def test_of_its_own_will_it_calls_nothing_here(client):
    answer = client.chat.completions.create(model=TINY, messages=ASK, tools=TOOLS, temperature=0, max_tokens=30)
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].message.content


def test_a_schema_of_a_tool_that_does_not_compile_is_refused_where_a_call_is_required(client):
    bad = [{"type": "function", "function": {"name": "bad", "parameters": {"type": "foo"}}}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=TINY, messages=ASK, tools=bad, tool_choice="required")
    assert refused.value.param == "tools"
    client.chat.completions.create(model=TINY, messages=ASK, tools=bad, max_tokens=2)


def test_thoughts_are_refused_of_a_model_that_has_none(tiny):
    with ollama.Client(tiny.url) as other:
        with pytest.raises(ollama.ResponseError, match=f'"{TINY}" does not support thinking'):
            other.chat(TINY, ASK, think=True)
        assert other.chat(TINY, ASK, think=False, options={"num_predict": 3}).done
