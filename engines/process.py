"""The engine process: one owner loop that takes commands, steps the engine, and sends what each step brought.

Run as `python -m engines.process FD PARENT`, FD being one end of a socket pair, by `engines.client`. It knows no
Redis. When the other end closes (its worker died) it ends itself, amid a step that hangs by the kernel's hand. Its
worker kills it when it is silent for long.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
import traceback
from dataclasses import asdict
from multiprocessing.connection import Connection

from engines import wire
from engines.base import Engine
from engines.errors import EngineError
from engines.loading import load_engine

#: A busy engine says something so often, also when its steps bring nothing (a long prompt). Seconds.
BEAT_S = 1.0


def serve(connection: Connection) -> None:
    """Load what the first message says, then step until the other end closes."""
    _, spec = wire.receive(connection)
    try:
        engine, facts = load_engine(wire.spec_from(spec), lambda text: wire.send(connection, "progress", text))
    except EngineError as error:
        wire.send(connection, "failed", {"code": error.code, "message": str(error)})
        return
    wire.send(connection, "ready", asdict(facts))
    sent = 0.0
    while True:
        take_commands(connection, engine)
        updates = engine.step()
        if updates or (engine.moved and time.monotonic() - sent >= BEAT_S):
            wire.send(connection, "step", wire.updates_to(updates))
            sent = time.monotonic()


def take_commands(connection: Connection, engine: Engine) -> None:
    """Carry out every command that waits; with an idle engine, block until there is one."""
    while connection.poll(0 if engine.busy else None):
        kind, body = wire.receive(connection)
        if kind == "submit":
            engine.submit(wire.task_from(body))
        elif kind == "cancel":
            engine.cancel(body)
            wire.send(connection, "cancelled", body)  # What no longer answers hangs, and is killed.


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, even amid a step that hangs.

    prctl(2), PR_SET_PDEATHSIG. Linux only: elsewhere the closed socket is seen after the step.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    # Ctrl-C goes to the whole terminal group; when to end is the worker's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(socket.socket(fileno=fd).detach())
    code = 0
    try:
        serve(connection)
    except (EOFError, ConnectionError):
        pass
    except Exception:
        traceback.print_exc()
        code = 1
    # Skips the destructors of OpenVINO, which can take seconds or hang; nothing is left to save.
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
