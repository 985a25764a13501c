"""How a model becomes visible: made whole out of sight, on disk for certain, then renamed into place.

One lock a model keeps pulls and removals apart; the kernel drops it when its holder dies, however it dies.
The work folder outlives its process on purpose: the next pull of the same source goes on from its bytes.
"""

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """One pull's folder. `files` will hold the source's files, `scratch` what they come out of (a wheel)."""

    folder: Path

    @property
    def files(self) -> Path:
        return self.folder / "files"

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    def new_converted(self) -> Path:
        """Where a converter may write, and none ever wrote: that of a killed pull may still run."""
        for old in self.folder.glob("converted-*"):
            shutil.rmtree(old, ignore_errors=True)
        return self.folder / f"converted-{uuid.uuid4().hex}"


@contextmanager
def lock(root: Path, slug: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds the model's lock across processes and threads; calls `waiting`, then blocks, if it is held."""
    folder = root / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    # Never removed: a second process could lock the removed file and a third its successor.
    with (folder / f"{slug}.lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def workspace(root: Path, slug: str, source: str) -> Workspace:
    """The work folder of this model from this pinned source, with what an earlier pull left in it.

    Another source has another folder, so bytes of two versions never mix. The caller holds the lock.
    """
    work = Workspace(root / ".staging" / f"{slug}+{hashlib.sha256(source.encode()).hexdigest()[:12]}")
    work.files.mkdir(parents=True, exist_ok=True)
    work.scratch.mkdir(exist_ok=True)
    return work


def publish(root: Path, slug: str, ready: Path) -> None:
    """Makes the finished folder `ready` the model, replacing an older one. The caller holds the lock."""
    for path in ready.rglob("*"):
        if path.is_file():
            _sync(path)
    for path in (ready, *(path for path in ready.rglob("*") if path.is_dir())):
        _sync(path)
    target = root / slug
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() or target.is_symlink():
        discard(root, target)
    ready.rename(target)
    _sync(target.parent)
    forget(root, slug)


def forget(root: Path, slug: str) -> None:
    """Removes what interrupted pulls of this model left. The caller holds the lock."""
    for leftover in (root / ".staging").glob(f"{slug}+*"):
        shutil.rmtree(leftover, ignore_errors=True)


def discard(root: Path, folder: Path) -> None:
    """Removes a model's folder in one step for whoever looks: out of sight first, then file by file."""
    if folder.is_symlink():
        folder.unlink()
        return
    trash = root / ".staging" / f"trash-{uuid.uuid4().hex}"
    trash.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(trash)
    # Also what a process that died in this line left.
    for old in trash.parent.glob("trash-*"):
        shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
