"""Commands that tell how things are and change nothing."""

import sys

import click

from ..errors import Failure
from ..options import SECTIONS, with_settings
from ..settings import KINDS, models_of
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


@click.command(short_help="Show who waits, who runs, and for how long.")
@click.option("--once", is_flag=True, help="Print it once, as where the output is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print it once, as one JSON document.")
@with_settings("data_dir", "redis_url")
def queue(loaded: Loaded, once: bool, as_json: bool) -> None:
    """Show the queue of a running server, every second until Ctrl-C: engines, users, jobs. Changes nothing."""
    from redis import RedisError

    from jobs import overview
    from jobs.connection import connect

    from .. import queue_view
    from ..redis_server import redis_url

    chosen = loaded.settings
    try:
        redis, set_here = connect(redis_url(chosen)), models_of(chosen)

        def read() -> list[overview.Overview]:
            """Those that have a model, and others that run elsewhere."""
            return [e for e in overview.read(redis, KINDS) if e.engine in set_here or e.workers or e.waiting]

        if as_json:
            click.echo(queue_view.document(read()))
        elif once or not sys.stdout.isatty():
            click.echo("\n".join(queue_view.lines(read())))
        else:
            queue_view.watch(read, sys.stdout)
    except RedisError as error:
        # The URL may hold a password.
        whose = "NPU_PROXY_REDIS_URL" if chosen.redis_url else chosen.data_dir
        raise Failure(
            f"the queue of {whose} does not answer ({error}): start npu-proxy serve, or set --data-dir or --redis-url"
        ) from None


COMMANDS: tuple[click.Command, ...] = (settings, health, queue)
