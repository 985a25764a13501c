"""What a worker process is told by its composition root. No environment is read here."""

from __future__ import annotations

from dataclasses import dataclass

from engines.base import EngineSpec
from scheduler.fairness import BATCH_SHARE


@dataclass(frozen=True)
class WorkerConfig:
    """One worker process: one engine process on one device, and its slots."""

    redis_url: str
    engine: EngineSpec
    #: Time for a model to load or compile before its process is taken for hung. Seconds.
    engine_start_timeout_s: float = 600.0
    #: What an engine gets to drop a task it was told to drop (a step, at most) before it counts as hung. Seconds.
    engine_grace_s: float = 30.0
    #: What the batch lane gets while interactive jobs wait.
    batch_share: float = BATCH_SHARE
