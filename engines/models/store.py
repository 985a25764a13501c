"""The model store: one folder a model, each with a manifest, and nothing visible that is not whole.

ROOT/SLUG/manifest.json   and the model's files beside it
ROOT/.staging/                   pulls under way (staging.py)
ROOT/.locks/SLUG.lock            one pull or removal of a model at a time
"""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

from engines.errors import BadModelName, CorruptModel, ModelNotFound
from engines.models import manifest as manifests
from engines.models import names
from engines.models.manifest import Manifest
from engines.models.staging import discard, forget, lock

log = logging.getLogger(__name__)

# A method is called `list` too, and hides the type inside the class.
Manifests = list[Manifest]


class ModelStore:
    """Models under `root`. Every look reads the disk, so another process's pulls are seen at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, name: str) -> Manifest:
        """Raises BadModelName, ModelNotFound, or CorruptModel if the manifest cannot be read."""
        folder = self._folder(name)
        try:
            text = (folder / manifests.FILE_NAME).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            name = names.normalise(name)
            raise ModelNotFound(
                f"there is no model {name!r} here; fetch it with `npu-proxy pull {name}`"
            ) from None
        except (OSError, ValueError) as error:
            raise CorruptModel(f"the manifest of {name!r} cannot be read ({error}); pull it again") from error
        return manifests.from_json(text, repr(names.normalise(name)))

    def path(self, name: str) -> Path:
        """What OpenVINO is given: the folder of an IR model, the file of a GGUF one. Raises as `get` does."""
        manifest = self.get(name)
        folder = self._folder(name)
        if manifest.format == "ir":
            return folder
        for file in manifest.files:
            if file.path.endswith(".gguf"):
                return self._inside(folder / file.path, name)
        raise CorruptModel(f"{manifest.name!r} has no .gguf file; remove it and pull it again")

    def is_whole(self, name: str) -> bool:
        """Whether every file is there in its full size; milliseconds, reads no contents (`verify` does)."""
        try:
            manifest = self.get(name)
        except (ModelNotFound, CorruptModel):
            return False
        return not any(True for _ in self._wrong_sizes(manifest))

    def verify(self, name: str) -> None:
        """Reads every byte. Raises CorruptModel naming the first file that is not as it was pulled."""
        manifest = self.get(name)
        wrong = next(self._wrong_sizes(manifest), None) or next(self._wrong_hashes(manifest), None)
        if wrong is not None:
            raise CorruptModel(
                f"{manifest.name!r} is damaged: {wrong}; `npu-proxy rm {manifest.name}`, then pull it again"
            )

    def remove(self, name: str) -> None:
        """Waits for a pull of the same model to end. A running engine keeps what it has mapped. Raises as
        `get` does, except that a damaged model can be removed.
        """
        folder = self._folder(name)
        with lock(self.root, names.slug(name)):
            forget(self.root, names.slug(name))
            if not folder.exists():
                self.get(name)
            discard(self.root, folder)

    def list(self) -> Manifests:
        """All readable models by name. A damaged one is logged and left out, so that it hides no other."""
        found = []
        for path in sorted(self.root.glob(f"*/{manifests.FILE_NAME}")):
            try:
                manifest = manifests.from_json(path.read_text(encoding="utf-8"), path.parent.name)
                if names.slug(manifest.name) != path.parent.name:
                    raise CorruptModel(f"the folder {path.parent.name} holds the manifest of {manifest.name}")
            except (OSError, ValueError, CorruptModel) as error:
                log.warning("left out of the list of models: %s", error)
            else:
                found.append(manifest)
        return found

    def _folder(self, name: str) -> Path:
        return self._inside(self.root / names.slug(name), name)

    def _inside(self, path: Path, name: str) -> Path:
        # The name itself is harmless by now; a link put into the store is not.
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise BadModelName(f"{name!r} leads out of the model store")
        return path

    def _wrong_sizes(self, manifest: Manifest) -> Iterator[str]:
        for file in manifest.files:
            try:
                size = self._inside(self._folder(manifest.name) / file.path, manifest.name).stat().st_size
            except OSError:
                yield f"{file.path} is missing"
            else:
                if size != file.size_bytes:
                    yield f"{file.path} has {size} bytes instead of {file.size_bytes}"

    def _wrong_hashes(self, manifest: Manifest) -> Iterator[str]:
        for file in manifest.files:
            with (self._folder(manifest.name) / file.path).open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256:
                    yield f"{file.path} has another sha256"
