"""What nobody reads is named in a header, and only that."""

import pytest

from api.ignored import MOST, ignored
from api.schemas import openai
from tests.api.bodies import BODIES, CHAT

HEADER = "X-NPU-Proxy-Ignored"


@pytest.mark.parametrize("path", [path for path in BODIES if path != "/v1/jobs"])
def test_of_a_body_that_is_read_whole_nothing_is_named(http, path):
    assert HEADER not in http.post(path, json=BODIES[path]).headers


def test_what_is_ignored_is_named_streamed_or_not(http):
    body = {**CHAT, "reasoning_effort": "low", "store": False, "verbosity": None, "n": 1}
    for more in ({}, {"stream": True}):
        answer = http.post("/v1/chat/completions", json={**body, **more})
        assert (answer.status_code, answer.headers[HEADER]) == (200, "reasoning_effort, store")


def test_ollamas_options_are_named_with_where_they_are(http):
    body = {**BODIES["/api/chat"], "keep_alive": "5m", "options": {"num_ctx": 4096, "seed": 1, "num_thread": None}}
    assert http.post("/api/chat", json=body).headers[HEADER] == "keep_alive, options.num_ctx"


def test_of_a_job_the_fields_of_its_body_are_named(http):
    body = {**BODIES["/v1/jobs"]}
    body["body"] = {**body["body"], "store": True}
    assert http.post("/v1/jobs", json=body).headers[HEADER] == "store"


def test_names_that_would_break_a_header_are_left_out_and_many_are_cut():
    body = {"a\r\nSet-Cookie": 1, "é": 1, "x" * 65: 1, "": 1, "fine": 1}
    assert ignored(openai.ChatCompletion(), body) == ["fine"]
    assert len(ignored(openai.ChatCompletion(), {f"f{n}": 1 for n in range(1000)})) == MOST
