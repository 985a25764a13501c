"""Where the settings come from: an option, else a variable, else the file, else the default."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .settings import CONFIG_VARIABLE, ENV_PREFIX, KEY_VARIABLE, Setting, Settings, Value, table
from .settings_parse import SettingsError, parse


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and for each name where its value was found, in words."""

    settings: Settings
    origins: Mapping[str, str]


def load(
    options: Mapping[str, str | None], environment: Mapping[str, str], config: Path | None = None
) -> Loaded:
    """The effective settings.

    `options` are the texts given on the command line by setting name, None where an option was not given;
    `config` is the file of --config. A name that is no setting is an error in each source, so that a typing
    error is never a silent default. Reads one file. Raises `SettingsError`.
    """
    rows = table()
    _refuse_unknown(
        "variable",
        (name for name in environment if name.startswith(ENV_PREFIX) and name != KEY_VARIABLE),
        [CONFIG_VARIABLE, *(row.variable for row in rows)],
    )
    path, text = _read(config, environment)
    file = _parse_file(path, text)
    _refuse_unknown(f"setting in {path}", file, [row.name for row in rows])

    values: dict[str, Value] = {}
    origins: dict[str, str] = {}
    for row in rows:
        values[row.name], origins[row.name] = _one(row, options, environment, file, path)
    # The table is the source of the types, and `parse` has just held every value to it.
    checked: dict[str, Any] = values
    return Loaded(Settings(**checked), origins)


def _one(
    row: Setting,
    options: Mapping[str, str | None],
    environment: Mapping[str, str],
    file: Mapping[str, object],
    path: Path,
) -> tuple[Value, str]:
    option = options.get(row.name)
    if option is not None:
        return parse(row, option, row.option), f"option {row.option}"
    for variable in (row.variable, row.rule.alias):
        if variable and variable in environment:
            return parse(row, environment[variable], variable), f"variable {variable}"
    if row.name in file:
        return parse(row, file[row.name], f"{path}: {row.name}"), str(path)
    return row.default, "default"


def _read(config: Path | None, environment: Mapping[str, str]) -> tuple[Path, str]:
    named = config or (Path(environment[CONFIG_VARIABLE]) if environment.get(CONFIG_VARIABLE) else None)
    base = environment.get("XDG_CONFIG_HOME") or "~/.config"
    path = (named or Path(base) / "npu-proxy" / "config.toml").expanduser()
    try:
        return path, path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named is None:
            return path, ""
        raise SettingsError(f"{path}: there is no such settings file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from None


def _parse_file(path: Path, text: str) -> Mapping[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: is no TOML: {error}") from None


def _refuse_unknown(what: str, names: Iterable[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; `npu-proxy settings` lists them all"
            raise SettingsError(f"unknown {what}: {name}{hint}")
