"""Bodies that are refused: with the reason, in the dialect of the path, and nothing is queued."""

import copy
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.bodies import BODIES, CHAT, error_of, newest_job, waiting
from tests.e2e.servers import FAKE_EMBED, FAKE_LLM

PATHS = list(BODIES)
HUGE = ("1e400", "1" + "0" * 5000, str(2**70), "-1e400")


@pytest.fixture
def nothing_queued(http):
    """No job is made meanwhile."""
    before = newest_job(http)
    yield
    assert newest_job(http) == before
    assert waiting(http) == 0


def post(http, path, raw: str | bytes, **headers):
    """POST a body as it is."""
    return http.post(path, content=raw, headers={"Content-Type": "application/json", **headers})


@pytest.mark.parametrize("path", PATHS)
def test_the_bodies_that_the_others_are_made_of_are_valid(http, path):
    assert http.post(path, json=BODIES[path]).status_code in (200, 202)


@pytest.mark.usefixtures("nothing_queued")
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nope",
        b"[]",
        b'"text"',
        b"1",
        b"null",
        b"\xff\xfe{}",
        b'{"model": "a", }',
        b"\x00",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b"[" * 100_000,
        b'{"a":' * 60_000,
        b'{"a": 1' + b"0" * 5000 + b"}",
        "{}".encode("utf-16"),
    ],
    ids=range(16),
)
def test_what_is_no_json_object(http, raw):
    for path in ("/v1/chat/completions", "/api/chat", "/v1/jobs"):
        response = post(http, path, raw)
        assert response.status_code == 400
        assert "sys." not in error_of(response)["message"]


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", {"messages": []}, "messages"),
    ("/v1/chat/completions", {"messages": None}, "messages"),
    ("/v1/chat/completions", {"messages": "Hello"}, "messages"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
    ("/v1/chat/completions", {"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
    ("/v1/chat/completions", {"messages": [{"content": "x"}]}, "messages[0].role"),
    ("/v1/chat/completions", {"messages": [1]}, "messages[0]"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content"),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].image_url",
    ),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        "messages[0].content[0]",
    ),
    ("/v1/chat/completions", {"messages": CHAT["messages"] * 13}, "messages"),
    ("/v1/chat/completions", {"model": None}, "model"),
    ("/v1/chat/completions", {"model": ""}, "model"),
    ("/v1/chat/completions", {"model": 1}, "model"),
    ("/v1/chat/completions", {"max_tokens": True}, "max_tokens"),
    ("/v1/chat/completions", {"max_tokens": "5"}, "max_tokens"),
    ("/v1/chat/completions", {"max_tokens": 0}, "max_tokens"),
    ("/v1/chat/completions", {"max_tokens": 1.5}, "max_tokens"),
    ("/v1/chat/completions", {"max_tokens": 2**70}, "max_tokens"),
    ("/v1/chat/completions", {"temperature": "0.5"}, "temperature"),
    ("/v1/chat/completions", {"temperature": True}, "temperature"),
    ("/v1/chat/completions", {"temperature": -0.1}, "temperature"),
    ("/v1/chat/completions", {"stop": ""}, "stop"),
    ("/v1/chat/completions", {"stop": ["a"] * 17}, "stop"),
    ("/v1/chat/completions", {"stop": {"a": 1}}, "stop"),
    ("/v1/chat/completions", {"stream": "yes"}, "stream"),
    ("/v1/chat/completions", {"stream": 1}, "stream"),
    ("/v1/chat/completions", {"stream_options": 1}, "stream_options"),
    ("/v1/chat/completions", {"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
    ("/v1/chat/completions", {"metadata": {"a": 1}}, "metadata.a.value"),
    ("/v1/chat/completions", {"user": ["ann"]}, "user"),
    ("/v1/chat/completions", {"stop_token_ids": [1] * 65}, "stop_token_ids"),
    ("/v1/chat/completions", {"response_format": {"type": "xml"}}, "response_format.type"),
    ("/v1/chat/completions", {"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ("/v1/chat/completions", {"structured_outputs": {}}, "structured_outputs"),
    ("/v1/chat/completions", {"structured_outputs": {"regex": "a", "grammar": "b"}}, "structured_outputs"),
    ("/v1/chat/completions", {"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
    ("/v1/chat/completions", {"structured_outputs": {"choice": ["a"]}}, "structured_outputs"),
    (
        "/v1/chat/completions",
        {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}, "tools": []},
        "structured_outputs",
    ),
    ("/v1/chat/completions", {"tools": [{"type": "function"}]}, "tools[0].function"),
    ("/v1/chat/completions", {"tools": [{"type": "x", "function": {"name": "f"}}]}, "tools[0].type"),
    ("/v1/chat/completions", {"tools": [{"function": {"name": "a b"}}]}, "tools[0].function.name"),
    ("/v1/chat/completions", {"tools": [{"function": {"name": "f"}}] * 2}, "tools"),
    ("/v1/chat/completions", {"tools": [{"function": {"name": "f"}}] * 129}, "tools"),
    (
        "/v1/chat/completions",
        {"tools": [{"function": {"name": "f", "parameters": []}}]},
        "tools[0].function.parameters",
    ),
    ("/v1/chat/completions", {"tools": [], "tool_choice": "required"}, "tool_choice"),
    ("/v1/chat/completions", {"tool_choice": "all"}, "tool_choice"),
    ("/v1/chat/completions", {"tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
    (
        "/v1/chat/completions",
        {"tools": [{"function": {"name": "f"}}], "response_format": {"type": "json_object"}},
        "tools",
    ),
    ("/v1/completions", {"prompt": ""}, "prompt"),
    ("/v1/completions", {"prompt": [""]}, "prompt"),
    ("/v1/completions", {"prompt": ["a", "b"]}, "prompt"),
    ("/v1/completions", {"prompt": [1, 2]}, "prompt"),
    ("/v1/completions", {"prompt": "  "}, "prompt"),
    ("/v1/embeddings", {"input": []}, "input"),
    ("/v1/embeddings", {"input": ""}, "input"),
    ("/v1/embeddings", {"input": ["a", ""]}, "input[1]"),
    ("/v1/embeddings", {"input": [1, "a"]}, "input[0]"),
    ("/v1/embeddings", {"input": [[1], [-1]]}, "input[1]"),
    ("/v1/embeddings", {"input": [True]}, "input[0]"),
    ("/v1/embeddings", {"input": [[1], "b", [2, "a"]]}, "input[2]"),
    ("/v1/embeddings", {"input": ["a"] * 61}, "input"),
    ("/v1/embeddings", {"input": {"a": 1}}, "input"),
    ("/v1/embeddings", {"input": "word " * 9000}, "input"),
    ("/v1/embeddings", {"encoding_format": "int8"}, "encoding_format"),
    ("/v1/embeddings", {"dimensions": 0}, "dimensions"),
    ("/v1/rerank", {"documents": []}, "documents"),
    ("/v1/rerank", {"documents": "a"}, "documents"),
    ("/v1/rerank", {"documents": ["a", {"title": "b"}]}, "documents[1]"),
    ("/v1/rerank", {"documents": ["a", "\ud800"]}, "documents[1]"),
    ("/v1/rerank", {"documents": ["a"] * 61}, "documents"),
    ("/v1/rerank", {"documents": ["a", "word " * 8191]}, "documents[1]"),
    ("/v1/rerank", {"query": ""}, "query"),
    ("/v1/rerank", {"query": "word " * 8193}, "query"),
    ("/v1/rerank", {"top_n": 0}, "top_n"),
    ("/v1/jobs", {"endpoint": "/v1/models"}, "endpoint"),
    ("/v1/jobs", {"endpoint": None}, "endpoint"),
    ("/v1/jobs", {"body": []}, "body"),
    ("/v1/jobs", {"body": {"model": FAKE_LLM}}, "body.prompt"),
    ("/v1/jobs", {"timeout": -1}, "timeout"),
    ("/v1/jobs", {"timeout": "5"}, "timeout"),
    ("/v1/jobs", {"lane": "fast"}, "lane"),
    ("/v1/jobs", {"webhook": "http://localhost/"}, "webhook"),
]


@pytest.mark.usefixtures("nothing_queued")
@pytest.mark.parametrize(("path", "change", "param"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_names_its_field(http, path, change, param):
    response = post(http, path, json.dumps({**BODIES[path], **change}))
    assert response.status_code == 400
    error = error_of(response)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")


@pytest.mark.usefixtures("nothing_queued")
@pytest.mark.parametrize(
    ("path", "change", "named"),
    [
        ("/api/chat", {"options": {"temperature": "hot"}}, "options.temperature"),
        ("/api/chat", {"options": []}, "options"),
        ("/api/chat", {"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": ["eA=="]}]}, "messages[0].images[0]"),
        ("/api/generate", {"images": ["eA=="]}, "images[0]"),
        ("/api/generate", {"prompt": ["a"]}, "prompt"),
        ("/api/generate", {"stream": 0}, "stream"),
        ("/api/embed", {"input": [1]}, "input[0]"),
        ("/api/embed", {"input": ["a"] * 61}, "input"),
    ],
)
def test_ollamas_clients_read_the_field_in_the_text(http, path, change, named):
    response = http.post(path, json={**BODIES[path], **change})
    assert response.status_code == 400
    assert error_of(response)["message"].startswith(named + ": ")


UNSUPPORTED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "n": 2,
        "logprobs": True,
        "top_logprobs": 3,
        "functions": [{}],
        "function_call": {"name": "f"},
        "logit_bias": {"1": 1},
        "modalities": ["audio"],
        "audio": {},
        "prediction": {},
        "web_search_options": {},
    },
    "/v1/completions": {
        "n": 2,
        "best_of": 2,
        "logprobs": 1,
        "echo": True,
        "suffix": "x",
        "logit_bias": {"1": 1},
        "response_format": {"type": "json_object"},
        "structured_outputs": {"regex": "a"},
    },
    "/api/chat": {"logprobs": True, "top_logprobs": 3},
    "/api/generate": {"suffix": "x", "template": "x"},
    "/v1/rerank": {"rank_fields": ["title"], "max_chunks_per_doc": 3, "max_tokens_per_doc": 100},
    "/v1/jobs": {"webhook": "http://localhost/"},
}


@pytest.mark.usefixtures("nothing_queued")
@pytest.mark.parametrize("path", UNSUPPORTED)
def test_what_is_known_but_not_served_is_refused_by_name(http, path):
    for name, value in UNSUPPORTED[path].items():
        response = http.post(path, json={**BODIES[path], name: value})
        assert response.status_code == 400, name
        assert error_of(response)["message"] == f"{name}: Not supported by this server."


@pytest.mark.parametrize("path", PATHS)
def test_null_is_as_good_as_absent_and_unknown_fields_are_ignored(http, path):
    body = BODIES[path]
    needed = {"model", "messages", "prompt", "input", "query", "documents", "endpoint", "body"}
    nulls = {name: value if name in needed else None for name, value in body.items()}
    nulls |= dict.fromkeys(UNSUPPORTED.get(path, {})) | {"something_new": {"a": [1]}}
    if path.startswith("/api/"):
        nulls["stream"] = False
    if "max_tokens" in nulls:
        nulls["max_tokens"] = 2
    assert http.post(path, json=nulls).status_code in (200, 202)


@pytest.mark.usefixtures("nothing_queued")
@pytest.mark.parametrize("huge", HUGE, ids=["1e400", "10**5000", "2**70", "-1e400"])
@pytest.mark.parametrize("path", PATHS)
def test_huge_numbers_anywhere(http, path, huge):
    for name in BODIES[path]:
        raw = json.dumps({**BODIES[path], name: "HUGE"}).replace('"HUGE"', huge)
        response = post(http, path, raw)
        assert response.status_code == 400, name
        error_of(response)


@pytest.mark.usefixtures("nothing_queued")
def test_an_unknown_model_is_a_404_in_both_dialects(http):
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank"):
        response = http.post(path, json={**BODIES[path], "model": "../etc"})
        error = error_of(response)
        assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    for path in ("/api/chat", "/api/generate", "/api/embed"):
        response = http.post(path, json={**BODIES[path], "model": "nope"})
        assert (response.status_code, response.json()) == (404, {"error": "model 'nope' not found"})
    swapped = http.post("/v1/chat/completions", json={**CHAT, "model": FAKE_EMBED})
    assert error_of(swapped)["code"] == "model_not_found"
    assert error_of(http.get("/v1/models/no/such:model"))["code"] == "model_not_found"


@pytest.mark.usefixtures("nothing_queued")
def test_a_prompt_too_long_says_count_and_limit(http):
    words = [{"role": "user", "content": "word " * 9000}]
    response = http.post("/v1/chat/completions", json={**CHAT, "messages": words, "stream": True})
    error = error_of(response)
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert error["message"] == "The prompt has 9001 tokens or more; the model takes at most 8191."


@pytest.mark.usefixtures("nothing_queued")
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
def test_a_body_too_long_is_a_413_however_it_is_sent(server, path):
    raw = json.dumps({"model": FAKE_LLM, "filler": "x" * 400_000}).encode()

    def chunks():
        for at in range(0, len(raw), 65_536):
            yield raw[at : at + 65_536]

    for content in (raw, chunks()):
        # Not by the shared client: gunicorn closes a connection whose body was not read.
        response = httpx.post(server.url + path, content=content)
        assert response.status_code == 413
        assert "at most 400000 bytes" in error_of(response)["message"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutations(draw) -> tuple[str, dict[str, Any], bool]:
    """A path, and its valid body with one value somewhere replaced, removed or added; whether it is still the same."""
    path = draw(st.sampled_from(PATHS))
    body = copy.deepcopy(BODIES[path])
    at: Any = body
    while True:
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[key], dict | list) or not at[key] or draw(st.booleans()):
            break
        at = at[key]
    how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
    if how == "replace":
        at[key] = draw(JSON)
    elif how == "remove":
        del at[key]
    elif isinstance(at, list):
        at.append(draw(JSON))
    else:
        at[draw(st.text(max_size=8))] = draw(JSON)
    if path != "/v1/jobs":
        body["stream"] = False
    return path, body, body == BODIES[path]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutation=mutations())
def test_a_body_with_one_value_changed_is_served_or_refused_and_never_breaks_anything(http, mutation):
    path, body, same = mutation
    before = newest_job(http)
    response = http.post(path, content=json.dumps(body).encode())
    if response.status_code in (200, 202):
        return
    assert not same
    assert response.status_code in (400, 404)
    error_of(response)
    assert newest_job(http) == before
