"""What every request handler needs, made once per API process and kept on the app."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from flask import current_app
from redis.exceptions import RedisError

from api.config import ApiConfig
from api.fetching import Fetcher
from api.unwanted import Unwanted
from jobs import reports
from jobs.connection import connect_impatient
from jobs.hub import EventHub
from jobs.models import OfferedModels, offer_all
from jobs.reports import Report
from jobs.store import JobStore
from jobs.submit import Submitter

#: Workers report every second, so their reports are read no more often.
REPORTS_AGE_S = 1.0


@dataclass(frozen=True)
class Services:
    """The way to jobs, for handlers."""

    config: ApiConfig
    store: JobStore
    hub: EventHub
    models: OfferedModels
    submitter: Submitter
    workers: WorkersView
    #: Of images by URL.
    fetcher: Fetcher
    #: Counts down the requests that may wait or stream at once.
    places: threading.BoundedSemaphore
    unwanted: Unwanted
    #: Set when this process is about to end: whoever waits then is told so, and nobody's job is cancelled for it.
    stopping: threading.Event = field(default_factory=threading.Event)


class WorkersView:
    """The workers' last reports, read from Redis at most every `REPORTS_AGE_S`. Thread-safe."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._reports: Sequence[Report] = ()
        self._read_at = 0.0

    def __call__(self) -> Sequence[Report]:
        """The reports; the last known ones while Redis is away, or while another reads: a Redis that stands still keeps
        nobody waiting but who asks it."""
        late = time.monotonic() - self._read_at >= REPORTS_AGE_S
        if late and self._lock.acquire(blocking=not self._read_at):
            try:
                self._reports = reports.read_all(self._store.redis)
            except RedisError:
                pass  # The request itself will meet Redis, and say so.
            finally:
                self._read_at = time.monotonic()
                self._lock.release()
        return self._reports


def make_services(config: ApiConfig) -> Services:
    """Connect to Redis (at the first command) and load the tokenizers; blocks for seconds. Raises `ModelError`."""
    redis = connect_impatient(config.redis_url)
    store = JobStore(redis)
    models = offer_all(config.model_root, config.models, config.backend)
    workers = WorkersView(store)
    return Services(
        config=config,
        store=store,
        hub=EventHub(redis, connect_impatient(config.redis_url)),
        models=models,
        submitter=Submitter(store, models, config.limits, workers),
        workers=workers,
        fetcher=Fetcher(config.images.hosts),
        places=threading.BoundedSemaphore(config.max_waiting),
        unwanted=Unwanted(store),
    )


def services() -> Services:
    """The services of the current app."""
    return cast(Services, current_app.extensions["npu_proxy"])
