"""The manifest of a model: what it is, where it came from, and every file with its hash."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, TypeVar, get_args

from engines.errors import BadModelName, CorruptModel
from engines.models import names

Kind = Literal["llm", "embed", "vision", "rerank"]
Format = Literal["gguf", "ir"]
Pooling = Literal["cls", "mean", "last_token"]

FILE_NAME = "manifest.json"
_VERSION = 1
_T = TypeVar("_T")


@dataclass(frozen=True)
class ModelFile:
    """One file, by its `/`-separated path inside the model's folder."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class EmbeddingFacts:
    """What TextEmbeddingPipeline must be told so that vectors equal the author's own.

    The prefixes are put before each query or document; empty when the model wants none.
    """

    pooling: Pooling
    normalize: bool
    dimensions: int
    query_instruction: str = ""
    document_instruction: str = ""


@dataclass(frozen=True)
class Manifest:
    """`source` is pinned (a commit, a version), so the same pull gives the same bytes elsewhere.

    `devices` are hints: where this format is known to run, best left to the scheduler to choose from.
    """

    name: str
    kind: Kind
    source: str
    format: Format
    files: tuple[ModelFile, ...]
    context_tokens: int
    devices: tuple[str, ...]
    created_s: int
    embedding: EmbeddingFacts | None = None
    family: str = ""
    parameter_size: str = ""
    quantization: str = ""

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def digest(self) -> str:
        """Identifies the content, not the name: sha256 over the sorted `hash path` lines, in hex."""
        lines = sorted(f"{file.sha256} {file.path}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def to_json(manifest: Manifest) -> str:
    return json.dumps({"version": _VERSION, **asdict(manifest)}, indent=1)


def from_json(text: str, where: str) -> Manifest:
    """Raises CorruptModel, naming `where`, for anything that `to_json` would not have written."""
    try:
        data = json.loads(text)
        if _field(data, "version", int) != _VERSION:
            raise ValueError(f"version {data['version']} was written by another npu-proxy")
        return _manifest(data)
    # RecursionError: json gives up on deep nesting with it.
    except (ValueError, TypeError, KeyError, BadModelName, RecursionError) as error:
        raise CorruptModel(
            f"the manifest of {where} is damaged ({error}); remove the model and pull it again"
        ) from error


def _manifest(data: dict[str, Any]) -> Manifest:
    embedding = data.get("embedding")
    files = tuple(_file(entry) for entry in _field(data, "files", list))
    if not files:
        raise ValueError("no files")
    return Manifest(
        name=names.normalise(_field(data, "name", str)),
        kind=_choice(data, "kind", Kind),
        source=_field(data, "source", str),
        format=_choice(data, "format", Format),
        files=files,
        context_tokens=_count(data, "context_tokens"),
        devices=tuple(_typed(device, "devices", str) for device in _field(data, "devices", list)),
        created_s=_count(data, "created_s"),
        embedding=None if embedding is None else _embedding(embedding),
        family=_field(data, "family", str),
        parameter_size=_field(data, "parameter_size", str),
        quantization=_field(data, "quantization", str),
    )


def _embedding(data: dict[str, Any]) -> EmbeddingFacts:
    return EmbeddingFacts(
        pooling=_choice(data, "pooling", Pooling),
        normalize=_field(data, "normalize", bool),
        dimensions=_count(data, "dimensions"),
        query_instruction=_field(data, "query_instruction", str),
        document_instruction=_field(data, "document_instruction", str),
    )


def _file(data: dict[str, Any]) -> ModelFile:
    sha256 = _field(data, "sha256", str)
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise ValueError(f"not a sha256: {sha256!r}")
    return ModelFile(safe_path(_field(data, "path", str)), sha256, _count(data, "size_bytes"))


def safe_path(path: str) -> str:
    """`path` if it stays inside the folder it is joined to, else ValueError. Touches no file."""
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
        raise ValueError(f"the path {path!r} leaves its folder")
    return str(pure)


def _field(data: dict[str, Any], key: str, kind: type[_T]) -> _T:
    return _typed(data[key], key, kind)


def _typed(value: object, key: str, kind: type[_T]) -> _T:
    # bool is an int to isinstance, but `true` bytes is no number.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{key!r} is not {kind.__name__}")
    return value


def _count(data: dict[str, Any], key: str) -> int:
    value = _field(data, key, int)
    if value < 0:
        raise ValueError(f"{key!r} is negative")
    return value


def _choice(data: dict[str, Any], key: str, literal: Any) -> Any:
    value = _field(data, key, str)
    if value not in get_args(literal):
        raise ValueError(f"{key!r} is {value!r}")
    return value
