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
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from bench.http_client import Connection, run_all
from bench.sides import BenchError, Generation, Prompt
from cli import health, lifeline
from cli.settings import CONFIG_VARIABLE, ENV_PREFIX, Settings, as_environment, models_of

#: `npu-proxy serve`, which by itself outlives who started it; here it ends even if the bench is killed.
SERVE = "from cli import lifeline, main; lifeline.die_with_parent(); main.main(['serve'])"

START_S = 300.0
#: Longer than the server gives itself to end.
STOP_S = 15.0


class Server:
    """A context manager: inside, the server runs and is a `Side`. All of it is gone when it is left."""

    def __init__(self, settings: Settings) -> None:
        """`settings` are the machine's own, but for the folder, which holds links to its models and cache."""
        self.settings = settings
        self._models = models_of(settings)
        self._connections: list[Connection] = []

    def __enter__(self) -> Server:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log(),
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
            connection.socket.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def generate(self, prompts: Sequence[Prompt], max_tokens: int) -> Generation:
        """One client for each prompt, all sending at the same moment on connections that are open."""
        bodies = [self._chat(prompt, max_tokens) for prompt in prompts]
        answers = run_all(self._connected(len(bodies)), "/v1/chat/completions", bodies)
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

    def _chat(self, prompt: Prompt, max_tokens: int) -> bytes:
        body = {
            "model": self._models["llm"],
            "messages": [{"role": "user", "content": prompt}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
        return json.dumps(body).encode()

    def _connected(self, count: int) -> list[Connection]:
        while len(self._connections) < count:
            self._connections.append(Connection(self.settings.host, self.settings.port))
        return self._connections[:count]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
        given = {**as_environment(self.settings), CONFIG_VARIABLE: os.devnull}
        return {**kept, **given, **lifeline.environment()}

    def _log(self) -> Any:
        return (self.settings.data_dir / "serve.log").open("wb")

    def _wait_until_ready(self) -> None:
        give_up_s = time.monotonic() + START_S
        while True:
            document = health.fetch(self.settings, timeout_s=2.0)
            if document is not None and all(
                health.states(document).get(kind) == "ready" for kind in self._models
            ):
                return
            if self._process.poll() is not None or time.monotonic() > give_up_s:
                log = (self.settings.data_dir / "serve.log").read_text(errors="replace")
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


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
