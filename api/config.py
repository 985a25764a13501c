"""What the API is told by its composition root. No environment is read here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from jobs.submit import Limits
from scheduler.limits import UserLimits


@dataclass(frozen=True)
class ImageLimits:
    """What images may be; sizes in bytes and pixels."""

    most: int = 8
    max_bytes: int = 8 * 2**20
    max_pixels: int = 4096 * 4096
    #: `host` or `host:port`, in small letters, from which images are fetched.
    hosts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ApiConfig:
    """Times in seconds, sizes in bytes."""

    redis_url: str
    model_root: Path
    #: Engine kind → the model it serves; only the engines that are switched on.
    models: dict[str, str]
    #: The address that is listened on; on loopback, names of foreign sites are refused (`api.guard`).
    host: str = ""
    #: Whether callers need an API key (`api.auth`).
    keys: bool = False
    #: Of users who have none of their own.
    user_limits: UserLimits = field(default_factory=UserLimits)
    backend: str = "genai"
    limits: Limits = field(default_factory=Limits)
    #: How often a silent stream says something.
    keepalive_s: float = 1.0
    #: Requests that may wait or stream at once; some threads stay free beyond them, for health and short calls.
    max_waiting: int = 240
    max_body_bytes: int = 8 * 2**20
    max_messages: int = 1024
    max_inputs: int = 2048
    images: ImageLimits = field(default_factory=ImageLimits)
    version: str = "0.1.0"
