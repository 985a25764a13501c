"""Commands that run until they are stopped: all of it, or one of its processes."""

import sys

import click

from .. import lifeline, logs
from ..options import SECTIONS, with_settings
from ..settings import KINDS
from ..settings_load import Loaded

#: How long a thread may keep the others of its process waiting. Python's 5 ms, met twice, are a token late. Seconds.
SWITCH_S = 0.0005


@click.command(short_help="Run everything here: Redis, workers and API.")
@with_settings(*SECTIONS)
def serve(loaded: Loaded) -> None:
    """Run everything here: Redis, a worker for each model, and the API.

    Fetches models that are missing, starts again what crashes, and ends all of it on Ctrl-C.
    """
    from ..serve import serve as run

    sys.exit(run(loaded.settings))


@click.command()
@with_settings("Server", "Jobs", "Processes")
def api(loaded: Loaded) -> None:
    """Run the HTTP server alone. Needs a Redis; workers may run anywhere."""
    lifeline.die_with_parent()
    logs.configure(loaded.settings)
    sys.setswitchinterval(SWITCH_S)
    from ..api_server import run_api

    run_api(loaded.settings)


@click.command(short_help="Run one engine and its jobs.")
@click.argument("kind", type=click.Choice(KINDS))
@with_settings("data_dir", "redis_url", "batch_share", "Engines", "Processes")
def worker(loaded: Loaded, kind: str) -> None:
    """Run one engine, such as that of KIND llm, and the jobs that wait for it. Needs a Redis."""
    lifeline.die_with_parent(insist=True)
    logs.configure(loaded.settings)
    sys.setswitchinterval(SWITCH_S)
    from jobs.worker import run_worker

    from ..compose import worker_config

    sys.exit(run_worker(worker_config(loaded.settings, kind)))


@click.command()
@with_settings("data_dir")
def redis(loaded: Loaded) -> None:
    """Run the embedded Redis alone, on a socket in the data folder."""
    lifeline.die_with_parent(exec_follows=True)
    from ..redis_server import become_server, socket_path

    click.echo(f"redis on unix://{socket_path(loaded.settings)}")
    become_server(loaded.settings)


COMMANDS: tuple[click.Command, ...] = (serve, api, worker, redis)
