"""A Hugging Face hub for tests: the two requests of its protocol that a pull makes, over loopback."""

import hashlib
import json

from tests.models.file_server import FileServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: Larger files are in LFS on the hub, with a sha256; smaller ones in git, with git's own hash.
LFS_FROM_BYTES = 10_000


class HubServer(FileServer):
    """`add_repo`, then set HF_ENDPOINT to `url`."""

    def __init__(self) -> None:
        super().__init__()
        self._repos: dict[str, list[dict[str, object]]] = {}

    def add_repo(self, repo: str, files: dict[str, bytes]) -> None:
        self._repos[repo] = [_sibling(path, content) for path, content in files.items()]
        for path, content in files.items():
            self.files[self.path(repo, path)] = content

    def path(self, repo: str, path: str) -> str:
        """Where a file of a repo is served."""
        return f"/{repo}/resolve/{COMMIT}/{path}"

    def page(self, path: str, query: str, accept: str) -> tuple[str, bytes] | None:
        repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
        if repo not in self._repos or revision not in ("", "main", COMMIT):
            return None
        info = {"id": repo, "sha": COMMIT, "siblings": self._repos[repo]}
        return "application/json", json.dumps(info).encode()


def _sibling(path: str, content: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    sibling: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": blob}
    if len(content) >= LFS_FROM_BYTES:
        sha256 = hashlib.sha256(content).hexdigest()
        sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
    return sibling
