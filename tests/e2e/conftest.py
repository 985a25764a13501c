"""Servers that several tests share, and one of one's own."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import ollama
import openai
import pytest

from tests.e2e.servers import Server, closed

StartServer = Callable[..., Server]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The fake engine, fast."""
    server = Server(fake_token_ms=1, llm_slots=8, keepalive_s=0.3).start()
    try:
        yield server.until_ready()
    finally:
        closed(server)


@pytest.fixture
def own_server() -> Iterator[StartServer]:
    """Start servers for one test, which may do to them what it likes."""
    servers: list[Server] = []

    def start(**settings: Any) -> Server:
        servers.append(Server(**settings).start())
        return servers[-1].until_ready()

    yield start
    complaints = [complaint for server in servers for complaint in server.close()]
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture
def openai_client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def ollama_client(server: Server) -> Iterator[ollama.Client]:
    with ollama.Client(server.url) as client:
        yield client
