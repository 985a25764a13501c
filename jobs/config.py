"""What a worker process is told by its composition root. No environment is read here."""

from __future__ import annotations

from dataclasses import dataclass

from engines.base import EngineSpec


@dataclass(frozen=True)
class WorkerConfig:
    """One worker process: one engine process on one device, and its slots."""

    redis_url: str
    engine: EngineSpec
    #: Time for a model to load or compile before its process is taken for hung. Seconds.
    engine_start_timeout_s: float = 600.0
