"""The server that is measured: a real `npu-proxy serve` on a free port, with a data folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import psutil

from bench.http_client import Connection, run_all
from bench.sides import BenchError, Generation, Prompt
from cli import health, lifeline
from cli.settings import CONFIG_VARIABLE, ENV_PREFIX, Settings, as_environment, models_of

#: `npu-proxy serve`, which by itself outlives who started it; here it ends even if the bench is killed.
SERVE = "from cli import lifeline, main; lifeline.die_with_parent(); main.main(['serve'])"

CHAT_PATH = "/v1/chat/completions"

START_S = 300.0
IDLE_S = 60.0
#: Longer than the server gives itself to end.
STOP_S = 15.0


class Server:
    """A context manager: inside, the server runs and is a `Side`. All of it is gone when it is left."""

    def __init__(self, settings: Settings) -> None:
        """`settings` are those of `own_settings`."""
        self.settings = settings
        self._models = models_of(settings)
        self._log = settings.data_dir / "serve.log"
        self._connections: list[Connection] = []

    def __enter__(self) -> Server:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # The terminal's Ctrl-C is for the bench, which then ends the server in good order.
                process_group=0,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> Generation:
        """One client for each prompt, all sending at the same moment on connections that are open."""
        bodies = [self.chat(prompt, max_tokens) for prompt in prompts]
        answers = run_all(self._connected(len(bodies)), CHAT_PATH, bodies)
        ends = [answer.check_stream() for answer in answers]
        return Generation(
            first_s=min(answer.first_s for answer in answers),
            total_s=max(answer.last_s for answer in answers),
            tokens=sum(end.tokens for end in ends),
            prompt_tokens=sum(end.prompt_tokens for end in ends),
            texts=tuple(end.text for end in ends),
        )

    def embed(self, texts: Sequence[str]) -> float:
        """One request, vectors as base64, which is what OpenAI's client asks for; they are not decoded."""
        body = {"model": self._models["embed"], "input": list(texts), "encoding_format": "base64"}
        [answer] = run_all(self._connected(1), "/v1/embeddings", [json.dumps(body).encode()])
        vectors = answer.body().count(b'"embedding":"')
        if vectors != len(texts):
            raise BenchError(f"{vectors} vectors for {len(texts)} texts: {answer.body()[:300]!r}")
        return answer.last_s

    def parts(self) -> Mapping[str, list[psutil.Process]]:
        """Its processes, by what they are: `serve`, `redis`, `api`, a worker and an engine of each kind."""
        serve = psutil.Process(self._process.pid)
        found: dict[str, list[psutil.Process]] = {"serve": [serve]}
        for child in serve.children():
            words = child.cmdline()
            if "worker" in words:
                kind = words[words.index("worker") + 1]
                found[f"{kind} worker"], found[f"{kind} engine"] = [child], child.children(recursive=True)
            else:
                found["api" if "api" in words else "redis"] = [child, *child.children(recursive=True)]
        return found

    def connect(self) -> Connection:
        """A further connection, which is the caller's to close."""
        return Connection(self.settings.host, self.settings.port)

    def chat(self, prompt: Prompt, max_tokens: int, user: str = "") -> bytes:
        """The body of a streaming chat for `CHAT_PATH`, of exactly `max_tokens`; without `user` it is the address's."""
        body = {
            "model": self._models["llm"],
            "messages": [{"role": "user", "content": prompt}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            **({"user": user} if user else {}),
        }
        return json.dumps(body).encode()

    def wait_until_idle(self) -> None:
        """Block until no job waits or runs; what clients left behind is cancelled by then. Raises `BenchError`."""
        give_up_s = time.monotonic() + IDLE_S
        while time.monotonic() < give_up_s:
            document = health.fetch(self.settings, timeout_s=2.0)
            engines = document["engines"].values() if document else ()
            if engines and not any(engine.get("waiting") or engine.get("running") for engine in engines):
                return
            time.sleep(0.1)
        raise BenchError(f"the server still had work {IDLE_S:g} s after its clients had left")

    def _connected(self, count: int) -> list[Connection]:
        while len(self._connections) < count:
            self._connections.append(self.connect())
        return self._connections[:count]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
        given = {**as_environment(self.settings), CONFIG_VARIABLE: os.devnull}
        return {**kept, **given, **lifeline.environment()}

    def _wait_until_ready(self) -> None:
        give_up_s = time.monotonic() + START_S
        while True:
            document = health.fetch(self.settings, timeout_s=2.0)
            if document is not None and all(
                health.states(document).get(kind) == "ready" for kind in self._models
            ):
                return
            if self._process.poll() is not None or time.monotonic() > give_up_s:
                log = self._log.read_text(errors="replace")
                raise BenchError(f"the server did not start:\n{log[-2000:]}")
            time.sleep(0.1)


class DataFolder:
    """A temporary data folder that shares the models and the cache of compiled ones with the real one.

    Short, as it holds a socket; gone afterwards, links and jobs, not models.
    """

    def __init__(self, real: Path) -> None:
        self._real = real

    def __enter__(self) -> Path:
        self._folder = tempfile.TemporaryDirectory(prefix="npb-")
        path = Path(self._folder.name)
        for shared in ("models", "cache"):
            (self._real / shared).mkdir(parents=True, exist_ok=True)
            (path / shared).symlink_to(self._real / shared)
        return path

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def own_settings(settings: Settings, folder: Path) -> Settings:
    """The machine's settings for a server in a `DataFolder` that nobody else uses: its own port and Redis, and no keys
    or limits of users, which would refuse what is to be measured."""
    return replace(
        settings, data_dir=folder, host="127.0.0.1", port=free_port(), redis_url="", auth="off",
        user_max_queued=0, user_max_running=0, user_requests_per_minute=0, user_tokens_per_minute=0,
    )  # fmt: skip


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
