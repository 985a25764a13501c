"""Room on the disk and hashes of what is on it."""

import errno
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.errors import DiskFull, HashMismatch, PullError
from engines.models.progress import VERIFYING, Progress

CHUNK_BYTES = 1 << 20


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raises DiskFull before anything is written, if it is plain already that the bytes will not fit."""
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise DiskFull(needed_bytes, free_bytes, str(folder))


@contextmanager
def write_errors_explained(folder: Path, needed_bytes: int) -> Iterator[None]:
    """Turns what the system says of a full disk (others write to it too) into DiskFull, and of a folder that
    may not be written into PullError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(needed_bytes, shutil.disk_usage(folder).free, str(folder)) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise PullError(
                f"{error.filename or folder} may not be written; check who owns the store"
            ) from error
        raise


def sha256(path: Path, progress: Progress, name: str | None = None) -> str:
    """In hex. Reads the file once, about a gigabyte a second."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    done = 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            progress(VERIFYING, name or path.name, done, size)
    return digest.hexdigest()


def git_sha1(path: Path) -> str:
    """Git's name of this content: what a hub tells of a file that is in git itself."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def check(path: Path, expected: str, progress: Progress, name: str) -> None:
    """Raises HashMismatch, and removes the file, unless it has the hash `sha256:HEX` or `git:HEX`."""
    algorithm, _, wanted = expected.partition(":")
    found = git_sha1(path) if algorithm == "git" else sha256(path, progress, name)
    if found != wanted.lower():
        path.unlink()
        raise HashMismatch(
            f"{name} has the {algorithm} hash {found}, but {wanted} was promised; nothing of it was kept. "
            "Pull again; if it happens twice, the source has changed or something on the way changes files"
        )
