"""A small HTTP file server that counts its bytes and can break off or hold still in mid file."""

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

CHUNK_BYTES = 16 * 1024


@dataclass
class Hold:
    """`reached` is set when the server has sent that many bytes; it goes on when `release` is set."""

    after_bytes: int
    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


class FileServer:
    """Serves `files` (path to content) with Range over loopback. Subclasses answer other paths in `page`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        #: Body bytes sent, by path.
        self.sent: defaultdict[str, int] = defaultdict(int)
        #: The Range header of every request for a file, by path.
        self.ranges: defaultdict[str, list[str | None]] = defaultdict(list)
        #: The headers of the last request, by path.
        self.headers: dict[str, dict[str, str]] = {}
        #: Once: after that many bytes the connection is dropped.
        self.cut_after: dict[str, int] = {}
        #: Always: the connection is dropped before the first byte of the body.
        self.broken: set[str] = set()
        self.hold: dict[str, Hold] = {}
        #: Once: this status instead of the file.
        self.fail: dict[str, int] = {}
        self.ignore_range = False

    def page(self, path: str, query: str, accept: str) -> tuple[str, bytes] | None:
        """Content type and body of a path that is no file; None is a 404."""
        return None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def do_HEAD(self) -> None:
                outer._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for hold in self.hold.values():
            hold.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        self.headers[path] = dict(request.headers.items())
        if path in self.files:
            self._send_file(request, path)
            return
        page = self.page(path, query, request.headers.get("Accept", ""))
        if page is None:
            request.send_response(404)
            request.send_header("Content-Length", "0")
            # The hub tells with this header that it is the repo that is missing.
            request.send_header("X-Error-Code", "RepoNotFound")
            request.end_headers()
            return
        request.send_response(200)
        request.send_header("Content-Type", page[0])
        request.send_header("Content-Length", str(len(page[1])))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(page[1])

    def _send_file(self, request: BaseHTTPRequestHandler, path: str) -> None:
        content, wanted = self.files[path], request.headers.get("Range")
        self.ranges[path].append(wanted)
        if status := self.fail.pop(path, None):
            request.send_response(status)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        start = 0 if wanted is None or self.ignore_range else int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(content) > 0:
            request.send_response(416)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        if request.command == "HEAD":
            return
        if path in self.broken:
            return
        cut, hold = self.cut_after.pop(path, None), self.hold.pop(path, None)
        stop = start + cut if cut is not None else len(content)
        pauses = [start + hold.after_bytes] if hold else []
        try:
            self._send_range(request, path, start, min([stop, *pauses]))
            if hold:
                hold.reached.set()
                hold.release.wait()
                self._send_range(request, path, pauses[0], stop)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _send_range(self, request: BaseHTTPRequestHandler, path: str, start: int, stop: int) -> None:
        for at in range(start, stop, CHUNK_BYTES):
            chunk = self.files[path][at : min(at + CHUNK_BYTES, stop)]
            request.wfile.write(chunk)
            self.sent[path] += len(chunk)
