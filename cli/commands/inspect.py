"""Commands that tell how things are and change nothing."""

import click

from ..errors import Failure
from ..options import SECTIONS, with_settings
from ..settings import KINDS
from ..settings_load import Loaded


@click.command()
@click.option("--markdown", is_flag=True, help="Print docs/settings.md instead.")
@with_settings(*SECTIONS)
def settings(loaded: Loaded, markdown: bool) -> None:
    """Show every setting, its value, and where the value comes from."""
    from .. import settings_docs

    click.echo(settings_docs.markdown() if markdown else settings_docs.listing(loaded), nl=not markdown)


@click.command(short_help="Ask a running server how it is.")
@click.option("--engine", type=click.Choice(KINDS), help="Look at this engine only.")
@click.option("--alive", is_flag=True, help="Be content with any answer, as while engines load.")
@with_settings("host", "port")
def health(loaded: Loaded, engine: str | None, alive: bool) -> None:
    """Ask a running server how it is; exit code 0 if it, or the --engine, is ready for work, else 1."""
    from ..health import address, fetch, summary

    found = fetch(loaded.settings, timeout_s=3.0)
    if found is None:
        raise Failure(f"no answer from {address(loaded.settings)}")
    state, text = summary(found, engine)
    if not alive and state not in ("ok", "ready"):
        raise Failure(text)
    click.echo(text)


COMMANDS: tuple[click.Command, ...] = (settings, health)
