"""One fast server with the fake engine for all that is refused or read, and its client."""

from collections.abc import Iterator

import httpx
import pytest

from tests.api.bodies import FAKE_RERANK, FAKE_VISION
from tests.e2e.servers import Server, closed


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Limits that are quick to reach, else the defaults."""
    limits = {"max_body_bytes": 400_000, "max_messages": 50, "max_inputs": 60, "default_max_tokens": 20}
    models = {"rerank_model": FAKE_RERANK, "vision_model": FAKE_VISION, "image_hosts": "localhost,169.254.169.254"}
    server = Server(fake_token_ms=1, **models, **limits).start()
    try:
        yield server.until_ready()
    finally:
        closed(server)


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client
