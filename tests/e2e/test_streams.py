"""Every token reaches its client once and in order."""

import asyncio

import httpx
import pytest

from tests.e2e.numbered import fault, read_streams
from tests.e2e.servers import FAKE_LLM, Server, closed


class FaultyServer(Server):
    command = ("-m", "tests.e2e.programs.faulty", "serve")


def test_sixteen_streams_at_once_lose_no_token(server):
    assert asyncio.run(read_streams(server.url, streams=16, count=200)) == [None] * 16


@pytest.fixture(scope="module")
def faulty():
    server = FaultyServer(fake_token_ms=1, embed_model="").start()
    try:
        yield server.until_ready()
    finally:
        closed(server)


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [
        ("all is well", None),
        ("fault:lose", "'7' in place 6"),
        ("fault:double", "'6' in place 7"),
        ("fault:swap", "'7' in place 6"),
    ],
)
def test_the_test_above_would_notice(faulty, prompt, complaint):
    body = {"model": FAKE_LLM, "prompt": prompt, "raw": True, "options": {"num_predict": 20}}
    with httpx.stream("POST", faulty.url + "/api/generate", json=body, timeout=30) as response:
        pieces = [line.split('"response":"')[1].split('"')[0] for line in response.iter_lines() if "response" in line]
    assert fault(pieces, 20) == complaint


def test_a_missing_end_is_a_fault():
    assert fault([" 1", " 2"], 3) == "2 tokens for 3"
    assert fault([" 1", " 2", " 3"], 3) is None
