"""Images by URL: only from the hosts that are named, only from the internet, only to the address that was checked."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from api.fetching import AT_ONCE, BadURL, Fetcher, TooManyFetches, is_public

PUBLIC = "93.184.215.14"
#: An allow-list that somebody was careless with.
HOSTS = frozenset(
    {"images.example", "images.example:8443", "localhost", "127.0.0.1", "169.254.169.254", "2130706433", "0x7f000001",
     "0177.0.0.1", "127.1", "metadata.google.internal", "rebinding.example", "internal.example", "mixed.example"}
)  # fmt: skip

HOSTILE = [
    # Other schemes, and none.
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "ftp://images.example/x.png",
    "gopher://images.example:6379/_FLUSHALL",
    "dict://images.example:6379/info",
    "ldap://images.example/",
    "ws://images.example/",
    "jar:http://images.example!/x",
    "javascript:alert(1)",
    "//images.example/x.png",
    "images.example/x.png",
    "/etc/passwd",
    "http:images.example",
    "http:/images.example/x",
    "http://",
    "https://?x",
    # Hosts that are not named.
    "http://evil.example/x.png",
    "http://images.example.evil.example/x.png",
    "http://evilimages.example/x.png",
    "http://sub.images.example/x.png",
    "http://images.example./x.png",
    # This machine and its neighbours, however they are written.
    "http://localhost/x",
    "http://LOCALHOST/x",
    "http://localhost:6379/x",
    "http://127.0.0.1/x",
    "http://127.0.0.1:11435/x",
    "http://127.1/x",
    "http://2130706433/x",
    "http://0x7f000001/x",
    "http://0177.0.0.1/x",
    "http://0/x",
    "http://[::1]/x",
    "http://[::ffff:127.0.0.1]/x",
    "http://[::ffff:7f00:1]/x",
    "http://[64:ff9b::7f00:1]/x",
    "http://[fe80::1%25eth0]/x",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://internal.example/x",
    "http://mixed.example/x",
    "http://rebinding.example/x",
    # Whose host it is depends on who reads it.
    "http://images.example@127.0.0.1/x",
    "http://127.0.0.1@images.example/x",
    "http://user:secret@images.example/x",
    "http://images.example\\@127.0.0.1/x",
    "http://127.0.0.1\\@images.example/x",
    "http:\\\\images.example\\x",
    "http://images.example#@127.0.0.1/",
    "http://images.example%2f@127.0.0.1/",
    "http://images.example%00.evil.example/",
    "http://images.example\t/x",
    "http://images.example\r\nHost: evil/x",
    "http://images.example/x y",
    " http://images.example/x",
    "http://images.example:0/x",
    "http://images.example:22/x",
    "http://images.example:99999/x",
    "http://images.example:-1/x",
    "http://images.example:８０/x",
    "http://imаges.example/x",
    "http://ⓘmages.example/x",
    "http://images。example/x",
    "http://" + "a" * 300 + ".example/x",
    "http://images.example/" + "x" * 3000,
    "http://[::1/x",
    "http://[images.example]/x",
]  # fmt: skip
ANSWERS = {
    "images.example": ["10.0.0.7"],
    "rebinding.example": ["192.168.1.1"],
    "internal.example": ["fc00::1"],
    "mixed.example": [PUBLIC, "127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "localhost": ["::1", "127.0.0.1"],
}


@pytest.fixture
def sent(monkeypatch) -> list[object]:
    """Every packet that somebody tries to send; none leaves."""
    tried: list[object] = []

    def refuse(*arguments: object, **options: object) -> None:
        tried.append(arguments[1:])
        raise AssertionError(f"a packet to {arguments[1:]}")

    for name in ("connect", "connect_ex", "sendto", "send", "sendall"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


def numbers(host: str, port: int) -> list[str]:
    """A resolver that reads numbers as the C library does, and knows a few names."""
    return ANSWERS.get(host) or [socket.inet_ntoa(socket.inet_aton(host))]


@pytest.mark.parametrize("url", HOSTILE, ids=range(len(HOSTILE)))
def test_no_packet_leaves_for_a_hostile_url(sent, url):
    assert len(HOSTILE) >= 60
    with pytest.raises(BadURL):
        Fetcher(HOSTS, numbers).fetch(url, 1000)
    assert sent == []


def test_without_an_allow_list_nobody_is_even_asked_for_an_address(sent):
    with pytest.raises(BadURL):
        Fetcher(frozenset()).fetch("https://images.example/x.png", 1000)
    assert sent == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1",
     "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:1::1", "::7f00:1", "x", ""],
)  # fmt: skip
def test_an_address_that_is_no_host_of_the_internet(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8"])
def test_an_address_of_the_internet(address):
    assert is_public(address)


# --- hosts that answer


Answer = Callable[[socket.socket], None]


@contextmanager
def host(answer: Answer, hello: bool = True) -> Iterator[tuple[int, list[bytes]]]:
    """A host that takes one connection, keeps its request and answers so."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                if hello:
                    heard.append(connection.recv(65_536))
                try:
                    answer(connection)
                except OSError:
                    pass  # The other side has heard enough.

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], heard
        finally:
            thread.join(10)
    assert not thread.is_alive()


def fetch(answer: bytes | Answer, url: str = "http://images.example/a/b.png?c=d", limit_s: float = 5, **options):
    """What comes of that URL at a host that answers so, and where the connection went."""
    went: list[tuple[str, int]] = []
    respond = answer if callable(answer) else lambda connection: connection.sendall(answer)
    with host(respond, options.get("hello", True)) as (port, heard):

        def connect(address: str, wanted_port: int, timeout_s: float) -> socket.socket:
            went.append((address, wanted_port))
            return socket.create_connection(("127.0.0.1", port), timeout_s)

        fetcher = Fetcher(HOSTS, options.get("resolve", lambda name, port: [PUBLIC]), connect, limit_s)
        return fetcher.fetch(url, options.get("max_bytes", 1000)), went, heard


def test_an_image_of_a_named_host_is_fetched_from_the_address_that_was_checked():
    body, went, heard = fetch(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nimage")
    assert (body, went) == (b"image", [(PUBLIC, 80)])
    lines = heard[0].decode().split("\r\n")
    assert lines[0] == "GET /a/b.png?c=d HTTP/1.1"
    assert "Host: images.example" in lines
    assert not [line for line in lines if line.lower().startswith(("cookie", "authorization"))]


def test_a_second_answer_of_the_name_server_changes_nothing():
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    _, went, _ = fetch(b"HTTP/1.1 200 OK\r\n\r\nimage", resolve=lambda name, port: next(answers))
    assert went == [(PUBLIC, 80)]
    assert next(answers) == ["127.0.0.1"], "it asked twice"


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert fetch(b"HTTP/1.1 200 OK\r\n\r\nimage")[0] == b"image"


def test_a_port_that_is_named_with_its_host_is_used():
    _, went, heard = fetch(b"HTTP/1.1 200 OK\r\n\r\nimage", "http://images.example:8443/")
    assert went == [(PUBLIC, 8443)]
    assert b"Host: images.example:8443" in heard[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 307 Moved\r\nLocation: http://images.example/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nimage",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nimage",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\nimage",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nimage",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\nimage",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
    ids=range(11),
)
def test_an_answer_that_is_no_image_of_that_host(answer):
    with pytest.raises(BadURL):
        fetch(answer)


def test_a_host_that_speaks_no_tls_is_not_heard():
    with pytest.raises(BadURL):
        fetch(b"HTTP/1.1 200 OK\r\n\r\nimage", "https://images.example/")


@pytest.fixture
def certificate(tmp_path, monkeypatch) -> ssl.SSLContext:
    """A host that this machine trusts as images.example."""
    key, made = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = "subjectAltName=DNS:images.example"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=x", "-addext", names, "-keyout", str(key), "-out", str(made)],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return context


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
@pytest.mark.parametrize("drips", [False, True])
def test_over_tls_the_name_is_checked_and_the_time_too(certificate, drips):
    def answer(connection: socket.socket) -> None:
        with certificate.wrap_socket(connection, server_side=True) as secure:
            assert secure.recv(65_536).startswith(b"GET /x HTTP/1.1")
            secure.sendall(b"HTTP/1.1 200 OK\r\n\r\nimage")
            while drips:
                secure.sendall(b"x")
                time.sleep(0.02)

    if drips:
        with pytest.raises(BadURL):
            fetch(answer, "https://images.example/x", limit_s=0.5, max_bytes=10_000, hello=False)
        return
    body, went, _ = fetch(answer, "https://images.example/x", hello=False)
    assert (body, went) == (b"image", [(PUBLIC, 443)])
    with pytest.raises(BadURL):
        fetch(answer, "https://mixed.example/x", hello=False)


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_who_answers_drop_by_drop_is_cut_off(begin):
    gone = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(begin)
        try:
            while not gone.wait(0.02):
                connection.sendall(b"x")
        except OSError:
            gone.set()

    with pytest.raises(BadURL):
        fetch(drip, limit_s=0.3, max_bytes=10_000)
    assert gone.is_set()


def test_no_more_than_so_many_fetch_at_a_time():
    fetcher = Fetcher(HOSTS, lambda name, port: [], places=threading.BoundedSemaphore(1))
    fetcher.places.acquire()
    with pytest.raises(TooManyFetches):
        fetcher.fetch("http://images.example/", 10)
    fetcher.places.release()
    with pytest.raises(BadURL):
        fetcher.fetch("http://images.example/", 10)
    assert fetcher.places.acquire(blocking=False), "a place was lost"
    assert AT_ONCE > 1
