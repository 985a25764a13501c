"""Translation, function by function: no server."""

import base64
import json
import struct
from dataclasses import replace

import pytest

from api.dialects import ollama, openai
from api.dialects.jobs import job_object, sse
from api.errors import Problem, first_fault, job_problem
from api.schemas import ollama as ollama_schemas
from api.schemas import openai as openai_schemas
from jobs.events import Event
from jobs.record import Job, JobError, Outcome, Usage
from jobs.request import Sampling

VECTOR = base64.b64encode(struct.pack("<4f", 0.6, 0.0, 0.8, 0.0)).decode()
USAGE = Usage(7, 2, 400, 1600)
DONE = Job(
    id="job_abc",
    engine="llm",
    endpoint=openai.CHAT,
    model="m",
    user="u",
    task="",
    state="completed",
    prompt_tokens=7,
    device="NPU",
    created_ms=1_700_000_000_500,
    started_ms=1_700_000_001_000,
    ended_ms=1_700_000_003_000,
    outcome=Outcome("Hi", "stop", USAGE),
)
CUT = replace(DONE, state="incomplete", error=JobError("deadline", "late"))


def chat(**more):
    return {"model": "m", "messages": [{"role": "user", "content": "x"}], **more}


def test_openai_sampling_takes_what_is_given_and_leaves_the_rest_to_the_defaults():
    plain = openai.chat_request(openai_schemas.ChatCompletion().load(chat())).sampling
    assert plain == Sampling(max_tokens=0)
    asked = chat(max_tokens=5, max_completion_tokens=9, temperature=0, top_k=-1, stop="a", seed=3, min_tokens=2)
    sampling = openai.chat_request(openai_schemas.ChatCompletion().load(asked)).sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_k) == (9, 0.0, 0)
    assert (sampling.stop, sampling.seed, sampling.min_tokens) == (("a",), 3, 2)


def test_ollama_sampling_has_ollamas_defaults():
    body = ollama_schemas.Chat().load(chat())
    sampling = ollama.chat_request(body).sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.repetition_penalty) == (0.8, 0.9, 40, 1.1)
    for unlimited in (-1, -2):
        body = ollama_schemas.Chat().load(chat(options={"num_predict": unlimited}))
        assert ollama.chat_request(body).sampling.max_tokens == ollama.UNLIMITED_TOKENS


def test_messages_become_what_chat_templates_know():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "4"},
    ]
    request = openai.chat_request(openai_schemas.ChatCompletion().load(chat(messages=messages)))
    assert request.messages == (
        {"role": "system", "content": "ab"},
        {"role": "assistant", "content": "", "tool_calls": [{**call, "function": {"name": "f", "arguments": {}}}]},
        {"role": "tool", "content": "4", "tool_call_id": "c"},
    )


def test_generate_takes_a_raw_prompt_as_it_is_and_else_makes_a_conversation():
    load = ollama_schemas.Generate().load
    raw = ollama.generate_request(load({"model": "m", "prompt": "x", "system": "s", "raw": True}))
    assert (raw.prompt, raw.messages) == ("x", ())
    told = ollama.generate_request(load({"model": "m", "prompt": "x", "system": "s"}))
    assert told.messages == ({"role": "system", "content": "s"}, {"role": "user", "content": "x"})


def test_a_cut_vector_has_length_one_again_in_both_encodings():
    assert openai.floats(VECTOR) == pytest.approx((0.6, 0.0, 0.8, 0.0))
    assert openai.floats(VECTOR, 2) == pytest.approx((1.0, 0.0))
    assert openai.floats(VECTOR, 4) == openai.floats(VECTOR, 99) == openai.floats(VECTOR)
    assert struct.unpack("<3f", base64.b64decode(openai.cut(VECTOR, 3))) == pytest.approx((0.6, 0.0, 0.8))
    assert openai.cut(VECTOR, 0) == VECTOR


def test_a_vector_that_is_cut_to_nothing_but_zeros_stays_finite():
    zeros = base64.b64encode(struct.pack("<3f", 0.0, 0.0, 1.0)).decode()
    assert openai.floats(zeros, 2) == (0.0, 0.0)


def test_usage_and_times_are_the_runs_own():
    assert openai.chat_result(DONE)["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    told = ollama.text_result(replace(DONE, endpoint=ollama.CHAT))
    assert told["total_duration"] == 2_500_000_000
    assert (told["prompt_eval_duration"], told["eval_duration"]) == (400_000_000, 1_600_000_000)
    assert (told["prompt_eval_count"], told["eval_count"]) == (7, 2)


def test_a_text_that_its_deadline_cut_says_so():
    assert openai.chat_result(CUT)["incomplete_details"] == {"reason": "deadline"}
    assert "incomplete_details" not in openai.chat_result(DONE)
    shown = job_object(CUT, result=openai.chat_result)
    assert (shown["error"], shown["incomplete_details"]) == (None, {"reason": "deadline"})
    assert shown["result"]["choices"][0]["message"]["content"] == "Hi"


def test_a_stream_with_usage_says_null_until_its_last_chunk():
    stream = openai.SSE(DONE, {"stream_options": {"include_usage": True}})
    text = stream.opening() + stream.token("Hi\n\ndata: x") + stream.end(DONE)
    events = text.removesuffix("data: [DONE]\n\n").split("\n\n")[:-1]
    bodies = [json.loads(event.removeprefix("data: ")) for event in events]
    assert [b["usage"] for b in bodies] == [None, None, None, openai.usage(USAGE)]
    assert bodies[1]["choices"][0]["delta"] == {"content": "Hi\n\ndata: x"}
    assert bodies[3]["choices"] == []


def test_every_piece_of_an_ndjson_stream_is_a_line():
    stream = ollama.NDJSON(replace(DONE, endpoint=ollama.GENERATE), {})
    pieces = [stream.token("a\nb"), stream.waiting("queued"), stream.end(DONE), stream.error(Problem(500, "x\ny"))]
    assert all(piece.endswith("\n") and piece.count("\n") == 1 and json.loads(piece) for piece in pieces)


def test_an_event_is_sent_with_its_id():
    assert sse(Event("5-1", "token", '{"text":"a"}')) == 'id: 5-1\nevent: token\ndata: {"text":"a"}\n\n'


@pytest.mark.parametrize(
    ("code", "status"),
    [("queue_timeout", 503), ("cancelled", 409), ("prompt_too_long", 400), ("engine_crashed", 500), ("new", 500)],
)
def test_the_end_of_an_accepted_job_is_never_to_be_tried_again(code, status):
    problem = job_problem(replace(DONE, state="failed", error=JobError(code, "why")))
    assert (problem.status, problem.code, problem.message) == (status, code, "why")
    assert problem.headers == {"x-should-retry": "false"}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ({"a": ["x"]}, ("a", "x")),
        ({"messages": {0: {"role": ["x", "y"]}}}, ("messages[0].role", "x")),
        ({"body": {"input": {3: ["x"]}}}, ("body.input[3]", "x")),
        ({"_schema": ["x"]}, (None, "x")),
        ({"messages": {0: {"content": [{1: ["x"]}]}}}, ("messages[0].content[1]", "x")),
        ([], (None, "[]")),
    ],
)
def test_the_first_fault_is_named_as_a_caller_writes_it(messages, expected):
    assert first_fault(messages) == expected
