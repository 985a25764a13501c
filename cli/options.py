"""Command-line options made from the table of settings."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import click

from .errors import BadSettings
from .settings import Setting, table, text_of
from .settings_load import Loaded, load
from .settings_parse import SettingsError, allowed

P = ParamSpec("P")
R = TypeVar("R")

SECTIONS = ("Server", "Engines", "Jobs", "Processes")


def with_settings(*wanted: str) -> Callable[[Callable[Concatenate[Loaded, P], R]], Callable[..., R]]:
    """Give a command the effective settings as its first argument, and an option for each of those `wanted`.

    `wanted` are names of settings or of whole sections; a setting without an option still has its variable
    and its line in the settings file. Settings that cannot be used end the command with exit code 2.
    """

    def decorate(command: Callable[Concatenate[Loaded, P], R]) -> Callable[..., R]:
        rows = [row for row in table() if row.name in wanted or row.rule.section in wanted]

        @functools.wraps(command)
        def run(config: Path | None, *args: P.args, **given: P.kwargs) -> R:
            options = {row.name: given.pop(row.name, None) for row in rows}
            texts = {name: text if isinstance(text, str) else None for name, text in options.items()}
            try:
                loaded = load(texts, os.environ, config)
            except SettingsError as error:
                raise BadSettings(str(error)) from None
            return command(loaded, *args, **given)

        wrapped: Callable[..., R] = click.option(
            "--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings file (TOML)."
        )(run)
        for row in reversed(rows):
            wrapped = _option(row)(wrapped)
        return wrapped

    return decorate


def _option(row: Setting) -> Callable[[Callable[..., R]], Callable[..., R]]:
    default = row.rule.default_text or text_of(row.default) or "empty"
    metavar = "|".join(row.rule.choices) or row.rule.unit.upper() or row.type.__name__.upper()
    text = f"{row.rule.help} Must be {allowed(row)}.  [{row.variable}; default: {default}]"
    # The text goes to `load` as it is, so that an option, a variable and a file are checked by one rule.
    return click.option(row.option, row.name, metavar=metavar, help=text)
