"""What web pages of other sites may do with a server on the same machine or network: nothing.

A browser sends a page's POST to any address, and with a JSON body of type text/plain it does not even ask first. So:

1. A changing request that a browser marks as another site's (`Sec-Fetch-Site`, else `Origin` against `Host`) is
   refused. Programs send neither header. The rule is that of Go's `http.CrossOriginProtection`.
2. A server that listens on loopback only refuses names in `Host` that are not its own: a name of a foreign site that
   was made to point to 127.0.0.1 (DNS rebinding) makes its pages same-origin.

No CORS header is ever sent, so no page of another site can read an answer.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from flask import Flask, request

from api.errors import ApiError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def register(app: Flask, listens_on: str) -> None:
    """Refuse such requests with 403 before anything else is looked at."""
    loopback = is_loopback(listens_on)

    @app.before_request
    def refuse_other_sites() -> None:
        host = request.headers.get("Host", "")
        if loopback and not is_local_name(host, listens_on):
            raise ApiError(
                403,
                "This server answers to localhost and to IP addresses only; it listens on this machine's loopback.",
                "host_not_allowed",
            )
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
        if request.method not in SAFE_METHODS and is_other_site(site, origin, host):
            raise ApiError(403, "Pages of other sites may not use this server.", "origin_not_allowed")


def is_other_site(site: str | None, origin: str | None, host: str) -> bool:
    """Whether a browser says that a page of another site sent this."""
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and _netloc(origin) != host.lower()


def is_local_name(host: str, listens_on: str) -> bool:
    """Whether a `Host` header names this machine in a way no foreign site can: by address or as localhost."""
    name = _name(host)
    return name in ("", "localhost", listens_on.lower()) or name.endswith(".localhost") or _is_address(name)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    if address == "localhost":
        return True
    return _is_address(address) and ipaddress.ip_address(address).is_loopback


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name(host: str) -> str:
    """The name in a `Host` header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
