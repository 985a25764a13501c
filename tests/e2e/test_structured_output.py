"""Answers of a given form from a real model, and what is sent to break it."""

import json
import threading

import httpx
import ollama
import openai
import pytest
from pydantic import BaseModel

from tests.e2e.test_real_models import LLM, client  # noqa: F401 - a fixture

pytestmark = pytest.mark.model

ASK = [{"role": "user", "content": "Describe a cat."}]


class Cat(BaseModel):
    name: str
    lives: int
    colours: list[str]


def test_a_type_comes_back_as_the_clients_own_object(client):  # noqa: F811
    answer = client.chat.completions.parse(model=LLM, messages=ASK, response_format=Cat, max_tokens=300, temperature=0)
    assert isinstance(answer.choices[0].message.parsed, Cat)
    assert answer.choices[0].finish_reason == "stop"


def test_a_stream_follows_the_schema_too(client):  # noqa: F811
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["cat", "dog"]}}}
    stream = client.chat.completions.create(model=LLM, messages=ASK, response_format=form, stream=True)
    assert json.loads("".join(c.choices[0].delta.content or "" for c in stream)) in ("cat", "dog")


def test_ollamas_client_gets_json_and_schemas(real_server):
    with ollama.Client(real_server.url) as other:
        options = {"num_predict": 300, "temperature": 0}
        chat = other.chat(LLM, ASK, format=Cat.model_json_schema(), options=options)
        Cat.model_validate_json(chat.message.content)
        text = other.generate(LLM, "List three colours as JSON.", format="json", options=options)
        if text.done_reason == "stop":
            assert isinstance(json.loads(text.response), dict)


def test_extensions_by_vllms_names(client):  # noqa: F811
    forms = [({"regex": "[0-9]{4}"}, str.isdigit), ({"grammar": 'root ::= "a" | "b"'}, "ab".__contains__)]
    for form, expected in forms:
        answer = client.chat.completions.create(model=LLM, messages=ASK, extra_body={"structured_outputs": form})
        assert expected(answer.choices[0].message.content)


def test_a_form_that_is_cut_ends_with_length(client):  # noqa: F811
    form = {"type": "json_schema", "json_schema": {"name": "cat", "schema": Cat.model_json_schema()}}
    answer = client.chat.completions.create(model=LLM, messages=ASK, response_format=form, max_tokens=3)
    assert answer.choices[0].finish_reason == "length"


def nested(depth):
    return '{"type":"object","required":["a"],"properties":{"a":' * depth + "{}" + "}}" * depth


POISON = [
    '{"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "foo"}}}',
    '{"type": "json_schema", "json_schema": {"name": "n", "schema": {"$ref": "#/nope"}}}',
    '{"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "string", "maxLength": 100000}}}',
    f'{{"type": "json_schema", "json_schema": {{"name": "n", "schema": {nested(400)}}}}}',
    f'{{"type": "json_schema", "json_schema": {{"name": "n", "schema": {nested(20_000)}}}}}',
    json.dumps({"regex": "((a{1,1000}){1,1000}){1,1000}"}),
    json.dumps({"regex": "(" * 20_000 + "a" + ")" * 20_000}),
    json.dumps({"regex": "[a-z"}),
    json.dumps({"grammar": "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000}),
    json.dumps({"grammar": "root ::= nothing"}),
]


def test_poison_is_refused_while_others_are_served(client, real_server):  # noqa: F811
    """Each of these has ended or hung a process, or failed every request of a batch."""
    pids = (real_server.api_pids(), real_server.pids("engines.process"))
    text: list[str] = []

    def chat():
        stream = client.chat.completions.create(
            model=LLM, messages=ASK, max_tokens=1500, stream=True, extra_body={"ignore_eos": True}
        )
        text.extend(chunk.choices[0].delta.content or "" for chunk in stream)
        text.append(stream.response.headers["x-npu-proxy-job"])

    beside = threading.Thread(target=chat)
    beside.start()
    for form in POISON:
        param = "response_format" if '"type": "json_schema"' in form else "structured_outputs"
        body = f'{{"model": "{LLM}", "messages": {json.dumps(ASK)}, "{param}": {form}}}'
        answer = httpx.post(real_server.url + "/v1/chat/completions", content=body, timeout=90)
        assert answer.status_code == 400, form[:100]
        error = answer.json()["error"]
        assert error["code"] == "invalid_json" or error["param"].startswith(param), error
    beside.join(120)
    assert not beside.is_alive()
    assert text.pop().startswith("job_")
    assert (real_server.api_pids(), real_server.pids("engines.process")) == pids
    answer = client.chat.completions.create(model=LLM, messages=ASK, response_format={"type": "json_object"})
    assert answer.choices[0].message.content.startswith("{")


def test_of_a_refused_form_the_client_learns_the_field_and_the_fault(client):  # noqa: F811
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "foo"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=LLM, messages=ASK, response_format=form)
    assert (refused.value.param, refused.value.code) == ("response_format", "invalid_value")
    assert 'Unsupported type "foo"' in refused.value.message
