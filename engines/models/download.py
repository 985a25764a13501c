"""Downloads one file over HTTP so that no byte is fetched twice, however the last attempt ended.

Bytes go to `TARGET.part`; a later call, in this process or another, asks for the rest with a Range (RFC 9110,
section 14). A server that ignores it starts the file anew.
"""

import time
from pathlib import Path

import httpx

from engines.errors import SourceUnavailable
from engines.models import disk
from engines.models.progress import DOWNLOADING, Progress

#: Attempts in a row that may bring nothing new. One that brought bytes starts the count again.
MAX_IDLE_ATTEMPTS = 4
#: Between two attempts; doubled after each idle one.
FIRST_PAUSE_S = 0.5
_RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}


class _Broken(Exception):
    """This attempt ended early; the next may go on from the bytes it left."""


def download(
    client: httpx.Client,
    url: str,
    target: Path,
    *,
    name: str,
    expected_hash: str | None,
    size_bytes: int | None,
    progress: Progress,
) -> None:
    """Blocks until `target` is whole and verified; returns at once if it is there already.

    `expected_hash` is `sha256:HEX` or `git:HEX`. Raises
    SourceUnavailable (a resumable `.part` stays), HashMismatch (nothing stays), DiskFull (the `.part` stays).
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    idle = 0
    while True:
        before = _size(part)
        try:
            _attempt(client, url, part, name, size_bytes, progress)
            break
        except (httpx.TransportError, _Broken) as error:
            idle = 0 if _size(part) > before else idle + 1
            if idle >= MAX_IDLE_ATTEMPTS:
                raise SourceUnavailable(
                    f"the download of {name} broke off at {_size(part):,} bytes "
                    f"({str(error) or type(error).__name__}); check the network, then pull again: "
                    "it goes on from there"
                ) from error
            time.sleep(FIRST_PAUSE_S * 2**idle)
    if expected_hash is not None:
        disk.check(part, expected_hash, progress, name)
    part.rename(target)


def _attempt(
    client: httpx.Client, url: str, part: Path, name: str, size_bytes: int | None, progress: Progress
) -> None:
    have = _size(part)
    if size_bytes is not None and have >= size_bytes:
        if have == size_bytes:
            return
        part.unlink()
        have = 0
    # Not compressed on the way: a range of compressed bytes is not a range of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            # Either the part is all there is or the file has changed; without a size only a new start can
            # tell.
            part.unlink()
            raise _Broken("the server has fewer bytes than the last attempt brought")
        if response.status_code in _RETRY_STATUS:
            raise _Broken(f"HTTP {response.status_code}")
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise SourceUnavailable(f"{name}: the server answered HTTP {response.status_code}")
        if response.status_code == httpx.codes.OK:
            have = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise _Broken("the server sent another range than was asked for")
        rest = int(response.headers.get("Content-Length", 0))
        total = size_bytes or (have + rest if rest else 0)
        disk.require_space(part.parent, max(total - have, 0))
        with (
            part.open("ab" if have else "wb") as stream,
            disk.write_errors_explained(part.parent, total - have),
        ):
            for chunk in response.iter_raw():
                stream.write(chunk)
                # What a kill leaves is then all that was told as completed.
                stream.flush()
                have += len(chunk)
                progress(DOWNLOADING, name, have, total)
    if total and have < total:
        raise _Broken("the server closed the connection early")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
