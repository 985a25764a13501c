"""A Python package index for tests: the simple repository API, in JSON or HTML, over loopback."""

import hashlib
import io
import json
import zipfile

from tests.models.file_server import FileServer


class IndexServer(FileServer):
    """`add_wheel`, then set PIP_INDEX_URL to `index_url`."""

    def __init__(self) -> None:
        super().__init__()
        self.json = True

    @property
    def index_url(self) -> str:
        return f"{self.url}/simple"

    def add_wheel(self, filename: str, content: bytes) -> str:
        """Returns the path under which it is served."""
        path = f"/files/{filename}"
        self.files[path] = content
        return path

    def page(self, path: str, query: str, accept: str) -> tuple[str, bytes] | None:
        project = path.removeprefix("/simple/").strip("/")
        names = [name.removeprefix("/files/") for name in self.files]
        names = [name for name in names if name.split("-")[0].replace("_", "-") == project]
        if not names:
            return None
        if self.json and "json" in accept:
            return "application/vnd.pypi.simple.v1+json", self._json(names)
        hrefs = (f"../../files/{name}#sha256={self._sha256(name)}" for name in names)
        links = "<br>".join(f'<a href="{href}">a wheel</a>' for href in hrefs)
        return "text/html", f"<!DOCTYPE html><html><body>{links}</body></html>".encode()

    def _json(self, names: list[str]) -> bytes:
        files = [
            {
                "filename": name,
                "url": f"../../files/{name}",
                "hashes": {"sha256": self._sha256(name)},
                "size": len(self.files[f"/files/{name}"]),
            }
            for name in names
        ]
        return json.dumps({"meta": {"api-version": "1.0"}, "name": "x", "files": files}).encode()

    def _sha256(self, name: str) -> str:
        return hashlib.sha256(self.files[f"/files/{name}"]).hexdigest()


def wheel(package: str, version: str, files: dict[str, bytes]) -> bytes:
    """A wheel that pip accepts, holding `files` uncompressed, so that sizes are what they seem."""
    info = f"{package}-{version}.dist-info"
    members = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), content)
    return buffer.getvalue()
