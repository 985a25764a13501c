"""A process that ends when the one that started it is gone, even by kill -9.

Linux tells it by a signal (`PR_SET_PDEATHSIG`, prctl(2)), which stays over exec; elsewhere a thread, or for a
process that will exec another process, looks at the parent's id. The signal follows the *thread* that forked,
so a parent must start such processes from a thread that lives as long as it does.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping

#: Set by `environment`; not a setting, so without the prefix of one.
VARIABLE = "_NPU_PROXY_PARENT_PID"

PR_SET_PDEATHSIG = 1
POLL_S = 0.5
#: What a process gets to end well before it is killed.
GRACE_S = 3.0


def environment() -> Mapping[str, str]:
    """What a child must find in its environment to hang on this process."""
    return {VARIABLE: str(os.getpid())}


def die_with_parent(
    parent_pid: int | None = None, *, insist: bool = False, exec_follows: bool = False
) -> None:
    """End this process with SIGTERM soon after its parent ends. Does not block.

    The parent is `parent_pid`, else the process that called `environment` for us; without either nothing
    happens, so that a command a person started outlives their shell. With `insist` a thread kills the process
    that has not ended `GRACE_S` seconds later; not for one that forks or execs, which no thread survives.
    Exits at once if the parent is gone already.
    """
    # Not for our own children: their parent is another.
    named = os.environ.pop(VARIABLE, "")
    if parent_pid is None:
        if not named.isdigit():
            return
        parent_pid = int(named)
    signalled = sys.platform == "linux"
    if signalled:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    # The parent may have died before the call above took hold.
    if os.getppid() != parent_pid:
        os._exit(1)
    if exec_follows and not signalled:
        fork_watcher(parent_pid)
    elif insist or not signalled:
        threading.Thread(target=_watch, args=(parent_pid,), name="lifeline", daemon=True).start()


def fork_watcher(parent_pid: int) -> None:
    """Leave a child behind that ends this process, whatever it execs, when `parent_pid` has ended."""
    watched = os.getpid()
    if os.fork():
        return
    while os.getppid() == watched:
        if not _alive(parent_pid):
            os.kill(watched, signal.SIGTERM)
            break
        time.sleep(POLL_S)
    os._exit(0)


def _watch(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
