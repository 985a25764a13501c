import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.models import download
from engines.models.store import ModelStore
from tests.models.hub_server import HubServer
from tests.models.index_server import IndexServer


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE_S", 0)
    # Proxies of this machine do not know its loopback.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub, and HF_ENDPOINT set to it here and for child processes."""
    import huggingface_hub.constants

    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        # Read once, at the import that another test may have done.
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[IndexServer]:
    """A package index, and pip configured to know no other."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with IndexServer() as server:
        monkeypatch.setenv("PIP_INDEX_URL", server.index_url)
        monkeypatch.setenv("PIP_RETRIES", "0")
        yield server
