"""The API's listening socket, and whose it is when it cannot be ours."""

import errno
import socket
from contextlib import suppress
from pathlib import Path

from .errors import Failure

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A TCP socket that listens there. Raises `Failure` that says what is in the way and what to set."""
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(where, family=family, backlog=BACKLOG)
    except OSError as error:
        raise Failure(_reason(host, port, error)) from None


def _reason(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        owner = port_owner(port) or "another process"
        return f"port {port} on {host} is taken by {owner}: stop it, or set NPU_PROXY_PORT"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than this user has: set NPU_PROXY_PORT to 1024 or more"
    return f"cannot listen on {host} port {port} ({error.strerror or error}): set NPU_PROXY_HOST"


def port_owner(port: int) -> str | None:
    """The process that listens on a TCP port, as "python3 (process 42)"; None where the system does not tell.

    Linux tells it of the user's own processes, in /proc/net/tcp and /proc/PID/fd, see proc(5).
    """
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        # Processes end while we look, and others' are closed to us.
        with suppress(OSError):
            if any(str(fd.readlink()) in sockets for fd in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                local, state, inode = (line.split()[column] for column in (1, 3, 9))
                if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                    inodes.add(inode)
    return inodes
