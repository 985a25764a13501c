"""The `npu-proxy` command, but its API waits a second for a client that sends or takes nothing and for a Redis that is
away, not `SILENT_CLIENT_S`, `SEND_WAIT_S` and `AWAY_S`, and the system keeps little of what was not taken."""

import dataclasses
import socket
import sys
from typing import Any

import api.waiting
import cli.api_server
import cli.serve
from cli.child import ChildSpec
from cli.listening import listen
from cli.main import main

_child = cli.serve.child


def child(*arguments: Any, **options: Any) -> ChildSpec:
    spec = _child(*arguments, **options)
    python, _, _, _, *rest = spec.command
    return dataclasses.replace(spec, command=(python, "-m", "tests.faults.programs.impatient", *rest))


def listen_narrowly(host: str, port: int) -> socket.socket:
    listener = listen(host, port)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # Connections have that of their listener.
    return listener


if __name__ == "__main__":
    cli.serve.child = child
    cli.api_server.listen = listen_narrowly  # type: ignore[attr-defined]
    api.waiting.SEND_WAIT_S = 1
    api.waiting.AWAY_S = 1.0
    cli.api_server.SILENT_CLIENT_S = 1
    sys.argv[0] = "npu-proxy"
    main()
