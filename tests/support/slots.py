"""RQ workers in this process, as the slots of a worker process are."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from jobs import keys
from jobs.store import JobStore
from scheduler.queue import EngineQueue


def as_worker(monkeypatch: pytest.MonkeyPatch, store: JobStore, engine: str = "llm") -> threading.Event:
    """Give the queue what `run_worker` gives it; the event that stops its slots."""
    stopping = threading.Event()
    monkeypatch.setattr(EngineQueue, "stopping", stopping, raising=False)
    monkeypatch.setattr(EngineQueue, "pick", partial(store.pick, engine), raising=False)
    monkeypatch.setattr(EngineQueue, "wake_list", f"{keys.fair(engine)}:wake", raising=False)
    return stopping
