"""`docs/settings.md` and the listing of `npu-proxy settings`, both made from the table."""

import re
from itertools import groupby

from .settings import CONFIG_VARIABLE, Setting, table, text_of
from .settings_load import Loaded
from .settings_parse import allowed

INTRODUCTION = f"""\
# Settings

<!-- Made by `npu-proxy settings --markdown > docs/settings.md`; a test holds it equal to the table. -->

Each setting can be given in four ways. The first that names it wins:

1. an option of the command: `npu-proxy serve --llm-device CPU`
2. an environment variable: `NPU_PROXY_LLM_DEVICE=CPU`
3. a line of the settings file: `llm_device = "CPU"`
4. its default

The settings file is TOML, without sections. It is `--config FILE`, else `${CONFIG_VARIABLE}`, else
`$XDG_CONFIG_HOME/npu-proxy/config.toml` (`~/.config/npu-proxy/config.toml`), which may be missing.

A name that does not exist or a value that is not allowed ends the start with one line that says so, and exit
code 2. `npu-proxy settings` shows the values in force and where each comes from. `true` can also be written
`1`, `yes` or `on`; `false` can be `0`, `no` or `off`.
"""


def markdown() -> str:
    """The whole of docs/settings.md."""
    parts = [INTRODUCTION]
    for section, rows in groupby(table(), key=lambda row: row.rule.section):
        parts += [f"\n## {section}\n\n", "| setting | variable | default | allowed | what it does |\n"]
        parts += ["| --- | --- | --- | --- | --- |\n", *map(_markdown_row, rows)]
    return "".join(parts)


def listing(loaded: Loaded) -> str:
    """One line a setting: name, value, origin, in columns."""
    rows = [
        (row.name, _shown(text_of(getattr(loaded.settings, row.name))), loaded.origins[row.name])
        for row in table()
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}" for name, value, origin in rows)


def _shown(value: str) -> str:
    # A listing is pasted into bug reports: a Redis password stays out of it.
    return re.sub(r"(?<=://)[^@/\s]*@", "***@", value) or '""'


def _markdown_row(row: Setting) -> str:
    default = row.rule.default_text or text_of(row.default)
    variables = f"`{row.variable}`" + (f" or `{row.rule.alias}`" if row.rule.alias else "")
    shown = f"`{default}`" if default and not row.rule.default_text else default or "empty"
    return f"| `{row.name}` | {variables} | {shown} | {allowed(row)} | {row.rule.help} |\n"
