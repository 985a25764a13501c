"""Fetching models with a progress bar for each file, for `pull` and for the start of `serve`."""

import shutil
import sys
from collections.abc import Iterable
from typing import Any, cast

import click
from tqdm import tqdm

from engines.errors import EngineError
from engines.models.manifest import Kind
from engines.models.progress import DOWNLOADING
from engines.models.pull import pull
from engines.models.store import ModelStore

from .errors import Failure
from .settings import Settings

#: Characters of a file's name before a bar, so that the bar has room on 80.
LONGEST_FILE = 28


def store_of(settings: Settings) -> ModelStore:
    """The models of this data folder."""
    return ModelStore(settings.data_dir / "models")


def pull_models(
    settings: Settings, references: Iterable[str], *, name: str | None = None, kind: str | None = None
) -> None:
    """Fetch models by name or source. Blocks; raises `Failure` at the first that fails."""
    store = store_of(settings)
    for reference in references:
        with Bars(reference) as bars:
            try:
                manifest = pull(store, reference, name=name, kind=cast(Kind | None, kind), progress=bars)
            except EngineError as error:
                raise Failure(str(error)) from None
        click.echo(f"{manifest.name} is ready", err=True)


def pull_missing(settings: Settings, names: Iterable[str]) -> None:
    """Fetch the models that an engine could not start without. As `pull_models`."""
    store = store_of(settings)
    pull_models(settings, [name for name in names if not store.is_whole(name)])


def short_step(status: str, file: str) -> str:
    """What a bar is about: the status' first word, and the file's name, cut at its front where it is long."""
    name = file if len(file) <= LONGEST_FILE else "…" + file[1 - LONGEST_FILE :]
    return f"{status.split()[0]} {name}"


class Bars:
    """A `Progress` for people: one bar a file on a terminal, else a line when a step begins.

    On stderr, so that stdout stays free for what is asked for.
    """

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._terminal = sys.stderr.isatty()
        self._said = ""
        self._bar: tqdm[Any] | None = None
        self._step = ""

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: object) -> None:
        self._close_bar()

    def __call__(
        self, status: str, file: str | None = None, completed_bytes: int = 0, total_bytes: int = 0
    ) -> None:
        if file is None or not self._terminal:
            self._close_bar()
            self._say(f"{self._reference}: {status}" + (f" {file}" if file else ""))
            return
        step = short_step(status, file)
        if step != self._step or self._bar is None:
            self._close_bar()
            self._step = step
            self._bar = tqdm(
                desc=step,
                total=total_bytes or None,
                initial=completed_bytes,
                unit="B",
                unit_scale=True,
                # A look through the bytes that are here is of interest only while it lasts.
                leave=status == DOWNLOADING,
                # tqdm shows nothing on a terminal that does not know its size.
                ncols=shutil.get_terminal_size().columns,
                nrows=24,
            )
        self._bar.update(completed_bytes - self._bar.n)

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            click.echo(line, err=True)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
