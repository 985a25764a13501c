"""Names of worker processes, which tell those on the same machine whether they still live."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

_PID_NAMESPACE = Path("/proc/self/ns/pid")
_NAME = re.compile(r"[a-z]+-(?P<machine>.+)-(?P<pid>[0-9]+)")


def process_name(kind: str) -> str:
    """This process's: unlike that of any other process that runs anywhere now."""
    return f"{kind}-{_machine()}-{os.getpid()}"


def is_dead(name: str) -> bool:
    """Whether it is the name of a process that ran where this one does, and has ended. False for what cannot be told
    from here: then its leases tell."""
    parts = _NAME.fullmatch(name)
    if parts is None or parts["machine"] != _machine():
        return False
    try:
        os.kill(int(parts["pid"]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False


def _machine() -> str:
    """The host's name, and the process namespace: containers may share the first, and count processes each anew."""
    try:
        return f"{socket.gethostname()}-{_PID_NAMESPACE.stat().st_ino}"
    except OSError:  # Not on Linux.
        return socket.gethostname()
