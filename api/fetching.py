"""Fetching images by URL, from hosts of an allow-list, and never from this network.

A URL is a caller's way to have this machine ask another, so: only http and https, only hosts that are named in the
settings, no proxy, no redirect. The host's name is resolved once; unless all its addresses are public nothing is sent,
and the connection goes to the address that was looked at, so that a second answer of the name server changes nothing.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

#: To connect, and from there to the last byte. Seconds.
FETCH_S = 10.0
#: Fetches of one process at a time: more would keep threads from those who wait for answers.
AT_ONCE = 8
LONGEST_URL = 2048
_READ_BYTES = 65_536

_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_PORTS = {"http": 80, "https": 443}
#: IPv6 networks that stand for IPv4 addresses: NAT64, 6to4, Teredo, and IPv4-compatible ones.
_TRANSLATED = [
    ipaddress.ip_network(network)
    for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")
]

Resolve = Callable[[str, int], Iterable[str]]
Connect = Callable[[str, int, float], socket.socket]


class BadURL(Exception):
    """Nothing that is fetched here; says why."""


class TooManyFetches(Exception):
    """`AT_ONCE` go on."""


class Target(NamedTuple):
    secure: bool
    host: str
    port: int
    #: As it stands in the request line and in `Host`.
    path: str
    authority: str


def resolve(host: str, port: int) -> list[str]:
    """Its addresses, by the system's resolver."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def connect(address: str, port: int, timeout_s: float) -> socket.socket:
    return socket.create_connection((address, port), timeout_s)


@dataclass(frozen=True)
class Fetcher:
    """What may be fetched, and how; the two functions are the only ones that reach the network. Thread-safe."""

    #: `host` or `host:port`, in small letters.
    hosts: frozenset[str]
    resolve: Resolve = resolve
    connect: Connect = connect
    limit_s: float = FETCH_S
    places: threading.BoundedSemaphore = threading.BoundedSemaphore(AT_ONCE)

    def fetch(self, url: str, max_bytes: int) -> bytes:
        """The body at that URL. Blocks up to twice `limit_s`, and for the name server.

        Raises `BadURL`, `TooManyFetches`.
        """
        target = self.allowed(url)
        if not self.places.acquire(blocking=False):
            raise TooManyFetches
        try:
            return self._get(target, self._public_address(target), max_bytes)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise BadURL(f"{target.host} did not answer with an image in time.") from error
        finally:
            self.places.release()

    def allowed(self, url: str) -> Target:
        """The parts of a URL that may be fetched, without asking anybody. Raises `BadURL`."""
        if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or re.search(r"[\s\\]", url):
            raise BadURL("Not a URL: it is too long, or has characters that none has.")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise BadURL("Not a URL.") from None
        host = parts.hostname or ""
        if parts.scheme not in _PORTS:
            raise BadURL("Only data:, https: and http: URLs are taken.")
        if "@" in parts.netloc or not _HOST.fullmatch(host) or port == 0:
            raise BadURL("The URL has no plain host name.")
        usual = port in (None, _PORTS[parts.scheme])
        authority = host if usual else f"{host}:{port}"
        if authority not in self.hosts:
            raise BadURL("Images are not fetched from that host: send it as a data: URL.")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Target(parts.scheme == "https", host, port or _PORTS[parts.scheme], path, authority)

    def _public_address(self, target: Target) -> str:
        addresses = list(self.resolve(target.host, target.port))
        if not addresses or not all(map(is_public, addresses)):
            raise BadURL(f"{target.host} is not a public host.")
        return addresses[0]

    def _get(self, target: Target, address: str, max_bytes: int) -> bytes:
        # TLS takes the socket over, so what ends it has one of its own to the same connection.
        with self.connect(address, target.port, self.limit_s) as plain, plain.dup() as same:
            late = threading.Event()
            # Each read has its own timeout, so who answers byte by byte is stopped from outside.
            timer = threading.Timer(self.limit_s, _shut, [same, late])
            timer.daemon = True
            timer.start()
            try:
                body = _ask(target, plain, max_bytes)
            finally:
                timer.cancel()
            if late.is_set():  # The end of the connection then looked like that of the body.
                raise TimeoutError
            return body


def _shut(connection: socket.socket, late: threading.Event) -> None:
    late.set()
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # It is closed.


def _ask(target: Target, plain: socket.socket, max_bytes: int) -> bytes:
    over: socket.socket = plain
    if target.secure:
        over = ssl.create_default_context().wrap_socket(plain, server_hostname=target.host)
    request = http.client.HTTPConnection(target.host, target.port)
    request.sock = over
    try:
        request.putrequest("GET", target.path, skip_host=True, skip_accept_encoding=True)
        for name, value in (("Host", target.authority), ("Accept", "image/*"), ("Connection", "close")):
            request.putheader(name, value)
        request.endheaders()
        with request.getresponse() as response:
            return _body(target, response, max_bytes)
    finally:
        request.close()


def _body(target: Target, response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    if response.status != 200:
        raise BadURL(f"{target.host} answered {response.status}; redirects are not followed.")
    if response.getheader("Content-Encoding", "identity") != "identity":
        raise BadURL(f"{target.host} sent the image packed.")
    body = bytearray()
    while chunk := response.read(_READ_BYTES):
        body += chunk
        if len(body) > max_bytes:
            raise BadURL(f"The image is too large: at most {max_bytes} bytes are taken.")
    if response.length:
        raise BadURL(f"{target.host} broke off.")
    return bytes(body)


def is_public(address: str) -> bool:
    """Whether it is of a host of the internet: not of this machine, its network, a cloud's metadata, or a group."""
    try:
        found = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if any(found in network for network in _TRANSLATED):
            return False
    return found.is_global and not found.is_multicast
