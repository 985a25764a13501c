"""Tool calls and thoughts through the official clients; the fake engine says what a model would."""

import base64
import json

import pytest

from tests.e2e.servers import FAKE_LLM

CALL = '{"name": "add", "arguments": {"a": 1, "b": [2, "é"]}}'
ARGUMENTS = {"a": 1, "b": [2, "é"]}
TWO_CALLS = f"I add.\n<tool_call>\n{CALL}\n</tool_call>\n<tool_call>{CALL}</tool_call>"
PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": PARAMETERS}}]


def say(text):
    """A conversation whose answer is that text."""
    return [{"role": "user", "content": f"fake:say={base64.b64encode(text.encode()).decode()}"}]


def test_openais_client_gets_calls(openai_client):
    answer = openai_client.chat.completions.create(model=FAKE_LLM, messages=say(TWO_CALLS), tools=TOOLS)
    [choice] = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("I add.", "tool_calls")
    assert [call.function.name for call in choice.message.tool_calls] == ["add", "add"]
    assert [json.loads(call.function.arguments) for call in choice.message.tool_calls] == [ARGUMENTS] * 2
    assert len({call.id for call in choice.message.tool_calls}) == 2


def test_openais_client_gets_calls_in_a_stream(openai_client):
    with openai_client.chat.completions.stream(model=FAKE_LLM, messages=say(TWO_CALLS), tools=TOOLS) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    whole = openai_client.chat.completions.create(model=FAKE_LLM, messages=say(TWO_CALLS), tools=TOOLS)
    assert "tool_calls.function.arguments.done" in kinds
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.content == "I add."
    streamed = [(call.function.name, call.function.arguments) for call in final.choices[0].message.tool_calls]
    assert streamed == [(c.function.name, c.function.arguments) for c in whole.choices[0].message.tool_calls]


def test_only_a_call_means_no_content(openai_client):
    text = f"<tool_call>{CALL}</tool_call>"
    message = openai_client.chat.completions.create(model=FAKE_LLM, messages=say(text), tools=TOOLS).choices[0].message
    assert message.content is None
    back = [
        *say("done"),
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "3"},
    ]
    assert openai_client.chat.completions.create(model=FAKE_LLM, messages=back).choices[0].message.content == "done"


@pytest.mark.parametrize("more", [{"tools": TOOLS, "tool_choice": "none"}, {}])
def test_who_wants_no_calls_gets_text(openai_client, more):
    answer = openai_client.chat.completions.create(model=FAKE_LLM, messages=say(TWO_CALLS), **more)
    assert (answer.choices[0].message.content, answer.choices[0].message.tool_calls) == (TWO_CALLS, None)


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "add"}}])
def test_every_other_choice_gets_calls(openai_client, choice):
    answer = openai_client.chat.completions.create(
        model=FAKE_LLM, messages=say(TWO_CALLS), tools=TOOLS, tool_choice=choice, parallel_tool_calls=True
    )
    assert answer.choices[0].message.tool_calls


def test_a_malformed_call_is_text(openai_client):
    text = '<tool_call>{"name": "add", "arguments": {"a": </tool_call> or so'
    stream = openai_client.chat.completions.create(model=FAKE_LLM, messages=say(text), tools=TOOLS, stream=True)
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == text
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_call_that_is_cut_ends_with_length(openai_client):
    answer = openai_client.chat.completions.create(
        model=FAKE_LLM, messages=say(f"<tool_call>{CALL}</tool_call>"), tools=TOOLS, max_tokens=4
    )
    assert (answer.choices[0].message.tool_calls, answer.choices[0].finish_reason) == (None, "length")


def test_ollamas_client_gets_calls(ollama_client):
    def add(a: int, b: int) -> int:
        """Adds.

        Args:
            a: One.
            b: Another.
        """
        return a + b

    answer = ollama_client.chat(FAKE_LLM, say(TWO_CALLS), tools=[add])
    assert (answer.message.content, answer.done_reason) == ("I add.", "stop")
    assert [(c.function.name, c.function.arguments) for c in answer.message.tool_calls] == [("add", ARGUMENTS)] * 2
    parts = list(ollama_client.chat(FAKE_LLM, say(TWO_CALLS), tools=[add], stream=True))
    assert [c.function.arguments for p in parts for c in p.message.tool_calls or ()] == [ARGUMENTS] * 2
    assert "".join(p.message.content or "" for p in parts) == "I add."
    back = [*say("done"), answer.message, {"role": "tool", "tool_name": "add", "content": "3"}]
    assert ollama_client.chat(FAKE_LLM, back).message.content == "done"


THOUGHT = "<think>\nLet me see.\n</think>\n\nYes."


def test_thoughts_stand_apart_in_openais_answers(openai_client):
    answer = openai_client.chat.completions.create(model=FAKE_LLM, messages=say(THOUGHT))
    assert answer.choices[0].message.content == "Yes."
    assert answer.choices[0].message.reasoning_content == "Let me see."
    deltas = [
        c.choices[0].delta
        for c in openai_client.chat.completions.create(model=FAKE_LLM, messages=say(THOUGHT), stream=True)
    ]
    assert "".join(d.content or "" for d in deltas) == "Yes."
    assert "".join(getattr(d, "reasoning_content", None) or "" for d in deltas) == "Let me see."


@pytest.mark.parametrize(("think", "thoughts"), [(None, "Let me see."), (True, "Let me see."), (False, "")])
def test_thoughts_stand_apart_in_ollamas_answers_or_are_left_out(ollama_client, think, thoughts):
    chat = ollama_client.chat(FAKE_LLM, say(THOUGHT), think=think)
    assert (chat.message.content, chat.message.thinking or "") == ("Yes.", thoughts)
    parts = list(ollama_client.chat(FAKE_LLM, say(THOUGHT), think=think, stream=True))
    assert "".join(p.message.thinking or "" for p in parts) == thoughts
    assert "".join(p.message.content or "" for p in parts) == "Yes."
    text = ollama_client.generate(FAKE_LLM, say(THOUGHT)[0]["content"], think=think)
    assert (text.response, text.thinking or "") == ("Yes.", thoughts)


def test_a_jobs_result_has_calls_and_thoughts_too(http):
    body = {"model": FAKE_LLM, "messages": say(THOUGHT + TWO_CALLS), "tools": TOOLS}
    accepted = http.post("/v1/chat/completions", json=body, headers={"Prefer": "respond-async"})
    url = accepted.headers["Location"]
    http.get(url + "/events")
    [choice] = http.get(url).json()["result"]["choices"]
    assert choice["message"]["reasoning_content"] == "Let me see."
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["add", "add"]
    assert choice == http.get(url).json()["result"]["choices"][0]
