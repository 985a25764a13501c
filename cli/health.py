"""What a running server says of itself on GET /health."""

import http.client
import json
from collections.abc import Mapping
from typing import Any

from .settings import Settings

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def host_of(settings: Settings) -> str:
    """The host to call a server by that listens on `host`."""
    return ANY_ADDRESS.get(settings.host, settings.host)


def address(settings: Settings) -> str:
    """The server's URL, as a client on this machine writes it."""
    host = host_of(settings)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def fetch(settings: Settings, timeout_s: float) -> Mapping[str, Any] | None:
    """The health document whatever its status code, None if there is none. Blocks for about `timeout_s`."""
    # Not urllib: a proxy of the environment has no business here.
    connection = http.client.HTTPConnection(host_of(settings), settings.port, timeout=timeout_s)
    try:
        connection.request("GET", "/health")
        document = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return document if isinstance(document, dict) else None


def states(health: Mapping[str, Any]) -> Mapping[str, str]:
    """The state of each engine: ready, loading or down."""
    engines = health.get("engines")
    return {
        str(kind): str(engine.get("state", "down")) if isinstance(engine, dict) else "down"
        for kind, engine in (engines.items() if isinstance(engines, dict) else ())
    }


def summary(health: Mapping[str, Any], engine: str | None = None) -> tuple[str, str]:
    """The state of the server, or of one engine, and a line that says it."""
    found = states(health)
    if engine is not None:
        state = found.get(engine, "down")
        return state, f"{engine}: {state}"
    status = str(health.get("status", "unknown"))
    return status, status + "".join(f", {kind}: {state}" for kind, state in found.items())
