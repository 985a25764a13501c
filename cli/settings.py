"""Every setting of npu-proxy, in one table.

The fields of `Settings` are the table: a type, a default and a `Rule` each. The environment variables, the
command-line options, the checks and `docs/settings.md` are derived from it: a new setting is one new field.
`cli.settings_load` reads the values, `cli.settings_parse` checks one value.
"""

import dataclasses
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ENV_PREFIX = "NPU_PROXY_"

#: Names the settings file, so it cannot be a setting itself.
CONFIG_VARIABLE = "NPU_PROXY_CONFIG"

#: Where a person keeps their API key for their own clients, as the greeting of `serve` does; no setting, and not read.
KEY_VARIABLE = "NPU_PROXY_KEY"

#: The kinds of engine that can be run.
KINDS = ("llm", "embed", "rerank", "vision")

_WORD = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
#: As `engines.models.names` has it: a name of the store, not the place it was pulled from.
MODEL = {
    "pattern": rf"({_WORD}(/{_WORD})*(:{_WORD})?)?",
    "allowed": "a model's name, or nothing for no engine",
}
DEVICE = {"pattern": r"(NPU|GPU|CPU)(\.[0-9]+)?", "allowed": "NPU, GPU, CPU, or one of many, such as GPU.1"}

Value = str | int | float | bool | Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is known of a setting beside its name, type and default. Bounds are inclusive."""

    section: str
    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    #: What `pattern` lets through, in words.
    allowed: str = ""
    #: A variable other programs know, with the same meaning; the setting's own variable wins.
    alias: str = ""
    #: How the default is written in the docs, where it differs from machine to machine.
    default_text: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    type: type[str] | type[int] | type[float] | type[bool] | type[Path]
    default: Value
    rule: Rule

    @property
    def variable(self) -> str:
        """The environment variable, such as NPU_PROXY_LLM_MODEL."""
        return ENV_PREFIX + self.name.upper()

    @property
    def option(self) -> str:
        """The command-line option, such as --llm-model."""
        return "--" + self.name.replace("_", "-")


def _row(default: Value | Callable[[], Path], help: str, **rule: Any) -> Any:
    metadata = {"rule": Rule(help=help, **rule)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "npu-proxy"


_server = partial(_row, section="Server")
_engine = partial(_row, section="Engines")
_job = partial(_row, section="Jobs")
_process = partial(_row, section="Processes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The effective settings; every value has passed its rule."""

    host: str = _server(
        "127.0.0.1", "Address the API listens on; 0.0.0.0 lets other machines in, who need keys then (`auth`).",
        pattern=r"[^\s/]+", allowed="a host name or an IP address")
    port: int = _server(11435, "Port the API listens on.", minimum=1, maximum=65535)
    auth: str = _server(
        "auto", "Whether requests need an API key: `keys` yes; `off` no, whoever reaches the port may in; `auto` "
        "unless the API listens on loopback only.", choices=("auto", "keys", "off"))
    data_dir: Path = _server(
        _default_data_dir, "Folder of the models and of the embedded Redis.",
        default_text="$XDG_DATA_HOME/npu-proxy, else ~/.local/share/npu-proxy")
    redis_url: str = _server(
        "", "Redis or Valkey to use; empty starts an embedded one.", alias="REDIS_URL",
        pattern=r"((rediss?|unix)://\S+)?",
        allowed="a URL that starts with redis://, rediss:// or unix://, or nothing")
    api_workers: int = _server(1, "Processes that serve HTTP.", minimum=1, maximum=64)
    api_threads: int = _server(
        256, "Requests one process serves at a time, open streams included.", minimum=1, maximum=4096)
    keepalive_s: float = _server(
        1.0, "Longest silence in a stream before it says that it is still there.",
        unit="s", minimum=0.1, maximum=60)
    max_body_bytes: int = _server(
        8 * 1024 * 1024, "Largest request body.", unit="bytes", minimum=1024, maximum=2**30)
    max_messages: int = _server(1024, "Messages in one chat request.", minimum=1, maximum=1_000_000)
    max_inputs: int = _server(
        2048, "Texts in one embeddings request, documents in one rerank request.", minimum=1, maximum=1_000_000)
    max_images: int = _server(8, "Images in one chat request.", minimum=1, maximum=1000)
    image_max_bytes: int = _server(
        8 * 1024 * 1024, "Largest image, as a file.", unit="bytes", minimum=1024, maximum=2**30)
    image_max_pixels: int = _server(
        4096 * 4096, "Largest image in pixels, width by height; decoding takes up to 14 bytes for each, of one image "
        "at a time.",
        unit="pixels", minimum=64, maximum=2**28)
    image_hosts: str = _server(
        "", "Hosts that images may be fetched from by URL, with commas between; with a port where it is not "
        "the usual one. Empty fetches none.",
        pattern=r"([A-Za-z0-9.-]+(:[0-9]{1,5})?(,[A-Za-z0-9.-]+(:[0-9]{1,5})?)*)?",
        allowed="host names with commas between, or nothing")

    llm_model: str = _engine(
        "smollm2:135m", "Model that answers chats; empty turns this engine off.", **MODEL)
    embed_model: str = _engine(
        "all-minilm", "Model that makes embeddings; empty turns this engine off.", **MODEL)
    rerank_model: str = _engine(
        "", "Model that ranks documents for a query; empty turns this engine off.", **MODEL)
    vision_model: str = _engine(
        "", "Model that answers chats with images; empty turns this engine off.", **MODEL)
    llm_device: str = _engine(
        "NPU", "First choice of device for chats; then NPU, GPU, CPU in turn.", **DEVICE)
    embed_device: str = _engine(
        "CPU", "First choice of device for embeddings; then NPU, GPU, CPU in turn.", **DEVICE)
    rerank_device: str = _engine(
        "CPU", "First choice of device for reranking; then GPU, CPU in turn. No NPU runs it.", **DEVICE)
    vision_device: str = _engine(
        "GPU", "First choice of device for chats with images; then CPU. No NPU runs them here.", **DEVICE)
    llm_slots: int = _engine(
        0, "Chats that run at a time; 0 takes 8 where the device batches, 1 on an NPU.",
        minimum=0, maximum=64)
    vision_slots: int = _engine(0, "Chats with images that run at a time; 0 takes 8.", minimum=0, maximum=64)
    max_step_tokens: int = _engine(
        256, "Prompt tokens read in one step of the engine; a cancel waits for one step at most.",
        unit="tokens", minimum=1, maximum=65536)
    kv_cache_gb: int = _engine(
        0, "Memory for the KV cache; 0 lets the engine choose.", unit="GB", minimum=0, maximum=1024)
    prefix_caching: bool = _engine(
        False, "Reuse the KV cache of prompts that begin alike. Answer times then tell a user whether "
        "another's prompt began like theirs.")
    npu_max_prompt_tokens: int = _engine(
        1800, "Longest prompt an NPU is given; longer ones are refused.",
        unit="tokens", minimum=1, maximum=131072)
    npu_min_response_tokens: int = _engine(
        512, "Answer length an NPU model is compiled for.", unit="tokens", minimum=1, maximum=131072)
    npu_prefill_hint: str = _engine(
        "DYNAMIC", "How an NPU reads prompts; STATIC compiles one size.", choices=("DYNAMIC", "STATIC"))
    npu_generate_hint: str = _engine(
        "FAST_COMPILE", "What an NPU's compilation aims at; BEST_PERF makes the first start longer.",
        choices=("FAST_COMPILE", "BEST_PERF"))
    reproducible: bool = _engine(
        False, "Make a greedy answer the same whatever runs beside it (f32 throughout); slower, and not on an NPU.")
    llm_properties: str = _engine(
        "", "OpenVINO properties for the chat engine, over its own; for experts.",
        pattern=r"(\{.*\})?", allowed="a JSON object, or nothing")
    engine_start_timeout_s: float = _engine(
        600.0, "Time an engine has to load its model.", unit="s", minimum=1, maximum=86400)
    engine_grace_s: float = _engine(
        30.0, "Time an engine has to drop a job at its deadline or cancel, one step at most, before it counts as hung "
        "and is killed.", unit="s", minimum=1, maximum=86400)
    backend: str = _engine(
        "genai", "Engine to run; fake needs no model: it is for trying the queue and for tests.",
        choices=("genai", "fake"))
    fake_token_ms: float = _engine(
        5.0, "Time the fake engine takes for a token.", unit="ms", minimum=0, maximum=60000)

    queue_timeout_s: float = _job(
        600.0, "Time a job may wait before it expires.", unit="s", minimum=1, maximum=604800)
    run_timeout_s: float = _job(
        600.0, "Time a job may run before it ends with the text so far.",
        unit="s", minimum=1, maximum=604800)
    result_ttl_s: int = _job(
        86400, "Time the result of a job that was handed in can be fetched.", unit="s", minimum=60, maximum=1_209_600)
    reply_ttl_s: int = _job(
        600, "Time a job that answered its caller at once can still be read.", unit="s", minimum=1, maximum=1_209_600)
    max_queued: int = _job(
        10000, "Jobs that may wait for one engine; more are refused with 429.",
        minimum=1, maximum=10_000_000)
    user_max_queued: int = _job(
        2000, "Jobs of one user that may wait for one engine, if the user has no limit of their own; 0 is no limit.",
        minimum=0, maximum=10_000_000)
    user_max_running: int = _job(
        0, "Jobs of one user that may run on one engine at a time, likewise; 0 is no limit.",
        minimum=0, maximum=10_000_000)
    user_requests_per_minute: int = _job(
        0, "Requests of one user in any minute, likewise; 0 is no limit.", minimum=0, maximum=1_000_000_000)
    user_tokens_per_minute: int = _job(
        0, "Tokens of one user in any minute, prompts and longest answers together, likewise; 0 is no limit.",
        unit="tokens", minimum=0, maximum=1_000_000_000)
    batch_share: float = _job(
        0.05, "Part of the service that the batch lane gets while interactive jobs wait.", minimum=0, maximum=0.5)
    default_max_tokens: int = _job(
        1024, "Longest answer where the request names no limit.",
        unit="tokens", minimum=1, maximum=131072)

    shutdown_s: float = _process(
        4.0, "Time `serve` gives its processes to end before it kills them.",
        unit="s", minimum=0.1, maximum=600)
    log_level: str = _process(
        "info", "Least important message that is logged.", choices=("debug", "info", "warning", "error"))
    log_format: str = _process("text", "Form of a log line.", choices=("text", "json"))


def table() -> tuple[Setting, ...]:
    """All settings in the order of the docs; the default of `data_dir` depends on the environment."""
    types = typing.get_type_hints(Settings)
    defaults = Settings()
    return tuple(
        Setting(row.name, types[row.name], getattr(defaults, row.name), row.metadata["rule"])
        for row in dataclasses.fields(Settings)
    )


def models_of(settings: Settings) -> Mapping[str, str]:
    """The model of each engine that is turned on, by the engine's kind."""
    models: dict[str, str] = {kind: getattr(settings, f"{kind}_model") for kind in KINDS}
    return {kind: model for kind, model in models.items() if model}


def as_environment(settings: Settings) -> Mapping[str, str]:
    """The variables that give a child process exactly these settings, whatever else it finds."""
    return {row.variable: text_of(getattr(settings, row.name)) for row in table()}


def text_of(value: Value) -> str:
    """A value as one would type it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
