"""Real processes for the tests of `cli`, none of which is left behind."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cli.settings import ENV_PREFIX
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
DEADLINE_S = 20.0

WaitUntil = Callable[..., None]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def root() -> Path:
    """The folder of the project."""
    return ROOT


@pytest.fixture
def wait_until() -> WaitUntil:
    """Wait for an event, not for a time; a test whose event never comes fails."""

    def wait(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
        until(condition, deadline_s, what)

    return wait


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Whether a process has ended; whoever is its parent now may not have asked for its exit code yet."""

    def look(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return look


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty data folder with a path short enough for a socket, as pytest's own may not be."""
    with tempfile.TemporaryDirectory(prefix="npx-") as folder:
        yield Path(folder)


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(ENV_PREFIX) or name == "REDIS_URL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `python ARGUMENTS...`; afterwards it and all that it started is killed and waited for."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        family = [process.pid]
        try:
            family += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            pass
        for pid in family:
            try:
                psutil.Process(pid).kill()
            except psutil.NoSuchProcess:
                pass
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
