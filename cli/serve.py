"""`npu-proxy serve`: everything on this machine, in the foreground."""

import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from . import redis_server
from .access import check_exposure, needs_keys
from .child import ChildSpec
from .console import Console
from .errors import BadSettings
from .health import address, fetch, states
from .listening import listen
from .settings import CONFIG_VARIABLE, KEY_VARIABLE, Settings, as_environment, models_of
from .supervisor import OWN_NAME, Supervisor

HEALTH_POLL_S = 0.25

#: When each must be gone, as a part of `shutdown_s`: no new request, then no unfinished job, then the data.
API_GONE_BY, WORKER_GONE_BY, REDIS_GONE_BY = 0.4, 0.9, 1.0


def serve(settings: Settings) -> int:
    """Run until SIGINT or SIGTERM; the exit code. Raises `Failure` when the start is not possible."""
    models = models_of(settings)
    if not models:
        raise BadSettings("no engine has a model (llm_model, embed_model, …): there is nothing to serve")
    listen(settings.host, settings.port).close()
    embedded = not settings.redis_url
    if embedded:
        redis_server.check_unused(settings)
    else:
        redis_server.check_reachable(settings.redis_url)
    if settings.backend != "fake":
        from .pulling import pull_missing

        pull_missing(settings, models.values())

    console = Console()
    ended = threading.Event()
    with Supervisor(console, settings.shutdown_s) as supervisor:
        if embedded:
            log = str(redis_server.socket_path(settings).with_name(redis_server.LOG_NAME))
            supervisor.start(child(settings, "redis", gone_by=REDIS_GONE_BY, log=log))
            supervisor.run_until(lambda: redis_server.answers(settings), redis_server.START_S)
        if not supervisor.told_to_stop:
            check_exposure(settings)
            for kind in models:
                supervisor.start(child(settings, "worker", kind, gone_by=WORKER_GONE_BY))
            supervisor.start(child(settings, "api", gone_by=API_GONE_BY))
            threading.Thread(target=_announce, args=(settings, console, ended), daemon=True).start()
            supervisor.run()
        ended.set()
        console.write(OWN_NAME, "stopping")
    return 0


def child(settings: Settings, command: str, *arguments: str, gone_by: float, log: str = "") -> ChildSpec:
    """A process of ours with exactly these settings, whatever becomes of the file they were read from."""
    inherited = {name: value for name, value in os.environ.items() if name != CONFIG_VARIABLE}
    return ChildSpec(
        name=arguments[0] if arguments else command,
        # -P: a folder `api` where the user happens to stand must not be imported for ours.
        command=(sys.executable, "-P", "-m", "cli", command, *arguments),
        environment={**inherited, **as_environment(settings), CONFIG_VARIABLE: os.devnull},
        gone_by=gone_by,
        log=log,
    )


def is_ready(health: Mapping[str, Any], kinds: frozenset[str]) -> bool:
    """Whether the API and an engine of each kind can take work."""
    found = states(health)
    return all(found.get(kind) == "ready" for kind in kinds)


def greeting(settings: Settings) -> str:
    """What to tell a person who waits for the start: the address, and requests to paste."""
    url, models = address(settings), models_of(settings)
    lines = [f"npu-proxy is ready on {url}", ""]
    json = "-H 'Content-Type: application/json'"
    if needs_keys(settings):
        json = f'-H "Authorization: Bearer ${KEY_VARIABLE}" {json}'
        lines += [f"{KEY_VARIABLE}=$(npu-proxy keys create NAME)"]
    if llm := models.get("llm"):
        question = '[{"role": "user", "content": "What is the capital of France?"}]'
        chat = f'"model": "{llm}", "temperature": 0, "messages": {question}'
        lines += [
            f"curl {url}/v1/chat/completions {json} -d '{{{chat}}}'",
            f"curl -N {url}/v1/chat/completions {json} -d '{{{chat}, \"stream\": true}}'",
        ]
    if embed := models.get("embed"):
        lines.append(f'curl {url}/v1/embeddings {json} -d \'{{"model": "{embed}", "input": "Hello"}}\'')
    return "\n".join(["", *lines, ""])


def _announce(settings: Settings, console: Console, ended: threading.Event) -> None:
    kinds = frozenset(models_of(settings))
    while not ended.wait(HEALTH_POLL_S):
        health = fetch(settings, timeout_s=2.0)
        if health is not None and is_ready(health, kinds) and not ended.is_set():
            console.write("", greeting(settings))
            return
