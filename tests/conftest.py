"""Fixtures over real servers and processes; each is ended by its own id, and one that stays behind fails its test."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from cli.settings import Settings
from engines.base import EngineSpec, Sampling
from engines.tokenizer import FakeTokenizer
from jobs import reports
from jobs.connection import connect
from jobs.hub import EventHub
from jobs.models import OfferedModel, OfferedModels
from jobs.record import Job
from jobs.request import EmbedRequest, GenerateRequest, Terms
from jobs.store import JobStore
from jobs.submit import Limits, Submitter
from tests.e2e.servers import Server, closed
from tests.support.valkey import Valkey
from tests.support.workers import AS_SERVED, Rules, Worker

FAKE_LLM = EngineSpec("llm", "fake-llm", "", backend="fake", fake_token_ms=2.0)
FAKE_EMBED = EngineSpec("embed", "fake-embed", "", backend="fake", fake_token_ms=2.0)
MODELS = OfferedModels(
    [
        OfferedModel("fake-llm", "llm", FakeTokenizer(), context_tokens=8192),
        OfferedModel("fake-embed", "embed", FakeTokenizer(), context_tokens=512, dimensions=8),
    ]
)

StartWorker = Callable[..., Worker]
Submit = Callable[..., Job]


@pytest.fixture
def models_dir() -> Path:
    """Tiny real models, see tests/fixtures/README.md."""
    return Path(__file__).parent / "fixtures" / "models"


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[Valkey]:
    server = Valkey()
    yield server
    server.stop()


@pytest.fixture
def valkey(shared_valkey: Valkey) -> Valkey:
    """An empty server."""
    with Redis.from_url(shared_valkey.url) as client:
        client.flushall()
    return shared_valkey


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A server for one test, which may kill it: it keeps what was written."""
    server = Valkey(durable=True)
    yield server
    server.stop()


@pytest.fixture
def redis(valkey: Valkey) -> Iterator[Redis]:
    with connect(valkey.url) as client:
        yield client


@pytest.fixture
def store(redis: Redis) -> JobStore:
    store = JobStore(redis)
    store.load_scripts()  # Pipelines, unlike single calls, do not load what the server lacks.
    return store


@pytest.fixture(scope="session")
def _shared_hub(shared_valkey: Valkey) -> Iterator[EventHub]:
    """A hub listens for ever, so there is one for all tests."""
    with connect(shared_valkey.url) as client, connect(shared_valkey.url, blocking=True) as blocking:
        yield EventHub(client, blocking)


@pytest.fixture
def hub(_shared_hub: EventHub, valkey: Valkey) -> EventHub:
    return _shared_hub


@pytest.fixture
def start_worker() -> Iterator[Callable[..., Worker]]:
    """Start a real worker: `start_worker(redis, url, spec, rules)`; returns when it has begun, not when it is ready."""
    workers: list[Worker] = []

    def start(
        redis: Redis, url: str, spec: EngineSpec = FAKE_LLM, rules: Rules = AS_SERVED, **changes: Any
    ) -> Worker:
        workers.append(Worker(redis, url, replace(spec, **changes), rules))
        return workers[-1]

    yield start
    complaints = [complaint for worker in workers for complaint in worker.close()]
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def worker(start_worker: Callable[..., Worker], redis: Redis, valkey: Valkey) -> StartWorker:
    """Start a real worker on the test's server and wait until it is ready: `worker(fake_token_ms=20)`."""

    def start(spec: EngineSpec = FAKE_LLM, **changes: Any) -> Worker:
        return start_worker(redis, valkey.url, spec, **changes).until_ready()

    return start


@pytest.fixture(scope="session")
def real_server() -> Iterator[Server]:
    """The two small models that `make test` fetches, on whatever device this machine has, 8 chats at a time."""
    server = Server(backend="genai", llm_model="smollm2:135m", embed_model="all-minilm")
    for folder in ("models", "cache"):
        there = Settings().data_dir / folder
        if there.exists():
            (server.data_dir / folder).symlink_to(there)
    server.start()
    try:
        yield server.until_ready(120)
    finally:
        closed(server)


@pytest.fixture
def submitter(store: JobStore, redis: Redis) -> Submitter:
    return Submitter(store, MODELS, Limits(), lambda: reports.read_all(redis))


@pytest.fixture
def submit(submitter: Submitter) -> Submit:
    """Queue a generation: `submit("Hello", 5, user="ann", run_timeout_s=1)`; the job."""

    def send(prompt: str = "Hello", max_tokens: int = 5, user: str = "ann", **terms: Any) -> Job:
        request = GenerateRequest("/test", "fake-llm", Sampling(max_tokens), prompt=prompt, param="prompt")
        job = submitter.prepare(request, Terms(user, **terms))
        submitter.enqueue(job)
        return job

    return send


@pytest.fixture
def submit_texts(submitter: Submitter) -> Submit:
    """Queue an embedding: `submit_texts("one", "two")`; the job."""

    def send(*texts: str, **terms: Any) -> Job:
        job = submitter.prepare(EmbedRequest("/test", "fake-embed", texts), Terms("ann", **terms))
        submitter.enqueue(job)
        return job

    return send
