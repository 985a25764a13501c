"""The composition root: from settings to what each process is told."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from engines.base import EngineSpec, Kind
from engines.errors import ModelError
from engines.models.manifest import EmbeddingFacts
from engines.models.store import ModelStore
from jobs.config import WorkerConfig
from jobs.models import FAKE_CONTEXT_TOKENS, of_kind
from jobs.submit import Limits
from scheduler.limits import UserLimits

from .access import needs_keys
from .errors import Failure
from .redis_server import redis_url
from .settings import Settings, models_of

if TYPE_CHECKING:
    from api.config import ApiConfig

#: What a model that makes no embeddings is loaded with; nothing reads it.
NO_EMBEDDING = EmbeddingFacts("mean", True, 0)

#: Threads that stay free for health, job look-ups and cancels while all the others wait or stream.
SPARE_THREADS = 16


def api_config(settings: Settings) -> ApiConfig:
    """What the API is told."""
    from api.config import ApiConfig, ImageLimits

    return ApiConfig(
        redis_url=redis_url(settings),
        model_root=settings.data_dir / "models",
        models=dict(models_of(settings)),
        host=settings.host,
        keys=needs_keys(settings),
        user_limits=UserLimits(
            settings.user_requests_per_minute,
            settings.user_tokens_per_minute,
            settings.user_max_queued,
            settings.user_max_running,
        ),
        backend=settings.backend,
        limits=Limits(
            settings.queue_timeout_s,
            settings.run_timeout_s,
            settings.max_queued,
            settings.default_max_tokens,
            settings.result_ttl_s,
            settings.reply_ttl_s,
        ),
        keepalive_s=settings.keepalive_s,
        max_waiting=max(1, settings.api_threads - SPARE_THREADS),
        max_body_bytes=settings.max_body_bytes,
        max_messages=settings.max_messages,
        max_inputs=settings.max_inputs,
        images=ImageLimits(
            settings.max_images,
            settings.image_max_bytes,
            settings.image_max_pixels,
            frozenset(host.lower() for host in settings.image_hosts.split(",") if host),
        ),
        version=version("npu-proxy"),
    )


def worker_config(settings: Settings, kind: str) -> WorkerConfig:
    """What the worker of an engine kind is told. Raises `Failure` when that engine is off or its model missing."""
    model = models_of(settings).get(kind, "")
    if not model:
        raise Failure(f"no model is set for {kind}: set NPU_PROXY_{kind.upper()}_MODEL")
    try:
        spec = engine_spec(settings, cast(Kind, kind), model)
    except ModelError as error:
        raise Failure(str(error)) from None
    return WorkerConfig(
        redis_url(settings), spec, settings.engine_start_timeout_s, settings.engine_grace_s, settings.batch_share
    )


def engine_spec(settings: Settings, kind: Kind, model: str) -> EngineSpec:
    """What an engine process loads. Raises `ModelError`."""
    device: str = getattr(settings, f"{kind}_device")
    slots: int = getattr(settings, f"{kind}_slots", 0)
    if settings.backend == "fake":
        return EngineSpec(
            kind, model, "", device, (), FAKE_CONTEXT_TOKENS, slots, "fake", fake_token_ms=settings.fake_token_ms
        )
    store = ModelStore(settings.data_dir / "models")
    manifest = of_kind(store, model, kind)
    embedding = manifest.embedding or NO_EMBEDDING
    cache = settings.data_dir / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    return EngineSpec(
        kind=kind,
        model=manifest.name,
        path=str(store.path(model)),
        device=device,
        device_hints=manifest.devices,
        context_tokens=manifest.context_tokens,
        slots=slots,
        max_step_tokens=settings.max_step_tokens,
        kv_cache_gb=settings.kv_cache_gb,
        prefix_caching=settings.prefix_caching,
        npu_max_prompt_tokens=settings.npu_max_prompt_tokens,
        npu_min_response_tokens=settings.npu_min_response_tokens,
        npu_prefill_hint=settings.npu_prefill_hint,
        npu_generate_hint=settings.npu_generate_hint,
        reproducible=settings.reproducible,
        cache_dir=str(cache),
        properties=_properties(settings) if kind == "llm" else {},
        pooling=embedding.pooling,
        normalize=embedding.normalize,
        document_instruction=embedding.document_instruction,
    )


def _properties(settings: Settings) -> dict[str, Any]:
    try:
        properties: dict[str, Any] = json.loads(settings.llm_properties or "{}")
    except ValueError as error:
        raise Failure(f"NPU_PROXY_LLM_PROPERTIES={settings.llm_properties}: must be a JSON object ({error})") from None
    return properties
