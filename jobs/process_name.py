"""Names of worker processes, which tell those on the same machine whether they still live."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from functools import cache
from pathlib import Path

_PID_NAMESPACE, _BOOT_ID = Path("/proc/self/ns/pid"), Path("/proc/sys/kernel/random/boot_id")
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


@cache
def _machine() -> str:
    """The host's name, and where process ids count: hosts may share a name, and containers a host, each counting its
    processes anew."""
    try:
        counted_by = f"{_BOOT_ID.read_text()} {_PID_NAMESPACE.stat().st_ino}"
    except OSError:  # Not on Linux: the network card's address, for want of better.
        counted_by = str(uuid.getnode())
    return f"{socket.gethostname()}-{hashlib.sha256(counted_by.encode()).hexdigest()[:8]}"
