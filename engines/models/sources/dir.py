"""`dir:`, a folder or a .gguf file of this machine.

Copied rather than linked: a model in the store never changes because somebody edits the original. A copy of
local files is quick, so it is the one source that starts anew after an interruption.
"""

import shutil
from pathlib import Path

from engines.errors import SourceUnavailable, UnsafeSource
from engines.models import disk
from engines.models.progress import COPYING, Progress
from engines.models.reference import DirReference
from engines.models.sources import Plan
from engines.models.staging import Workspace


class DirSource:
    def __init__(self, reference: DirReference) -> None:
        self._root = Path(reference.path).expanduser().resolve()

    def plan(self) -> Plan:
        """Raises UnsafeSource for a symlink out of the folder: it could name any file of this machine."""
        return Plan(f"dir:{self._root}", sum(path.stat().st_size for path in self._files().values()))

    def fetch(self, work: Workspace, progress: Progress) -> None:
        # Always from the start: what an interrupted copy left may be of an older edition of the folder.
        shutil.rmtree(work.files)
        for name, path in self._files().items():
            target = work.files / name
            size = path.stat().st_size
            target.parent.mkdir(parents=True, exist_ok=True)
            part = work.scratch / "copy.part"
            done = 0
            with (
                path.open("rb") as source,
                part.open("wb") as copy,
                disk.write_errors_explained(work.folder, size),
            ):
                while chunk := source.read(disk.CHUNK_BYTES):
                    copy.write(chunk)
                    done += len(chunk)
                    progress(COPYING, name, done, size)
            part.rename(target)

    def _files(self) -> dict[str, Path]:
        if self._root.is_file():
            return {self._root.name: self._root}
        if not self._root.is_dir():
            raise SourceUnavailable(f"{self._root} is neither a folder nor a file")
        found = {}
        for path in sorted(self._root.rglob("*")):
            relative = path.relative_to(self._root)
            # .git, .cache and the like are no part of a model.
            if any(part.startswith(".") for part in relative.parts):
                continue
            if not path.resolve().is_relative_to(self._root):
                raise UnsafeSource(
                    f"{path} is a link that leads out of {self._root}; put the file itself there"
                )
            if path.is_file():
                found[relative.as_posix()] = path
        return found
