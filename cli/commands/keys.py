"""Commands for users and their API keys."""

import click

from ..errors import Failure
from ..options import with_settings
from ..settings_load import Loaded


@click.group()
def keys() -> None:
    """Make, list and revoke the API keys of users.

    Without --redis-url the embedded Redis is used; if it does not run, it is started for the moment. A running
    server heeds every change at once.
    """


@keys.command(short_help="Make a key for a user, and set what they may.")
@click.argument("name")
@click.option("--weight", type=float, help="Part of the device beside other users, who have 1 each unless set.")
@click.option("--rpm", type=int, help="Requests in any minute.")
@click.option("--tpm", type=int, help="Tokens in any minute.")
@click.option("--max-queued", type=int, help="Jobs that may wait for one engine.")
@click.option("--max-running", type=int, help="Jobs that may run on one engine at a time.")
@click.option("--admin/--no-admin", default=None, help="See and cancel everybody's jobs, and read /metrics.")
@with_settings("data_dir", "redis_url")
def create(
    loaded: Loaded,
    name: str,
    weight: float | None,
    rpm: int | None,
    tpm: int | None,
    max_queued: int | None,
    max_running: int | None,
    admin: bool | None,
) -> None:
    """Make a key for the user NAME, and the user if they are new; print it, once.

    Only the key goes to stdout: KEY=$(npu-proxy keys create alice). Further keys of one NAME are the same user.
    Options that are given change the user also if they exist; 0 takes a limit back to the server's (user_... in
    `npu-proxy settings`).
    """
    from jobs.users import Wishes

    from ..accounts import open_users

    with open_users(loaded.settings) as users:
        _show(name, users.create(name, Wishes(weight, rpm, tpm, max_queued, max_running, admin)))


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@with_settings("data_dir", "redis_url")
def list_keys(loaded: Loaded, as_json: bool) -> None:
    """List users: weight, limits of their own, and the ids of their keys with the time they were made."""
    from .. import accounts

    with accounts.open_users(loaded.settings) as users:
        found = users.list()
    if as_json:
        click.echo(accounts.as_json(found))
        return
    for line in accounts.as_text(found):
        click.echo(line)


@keys.command()
@click.argument("name")
@click.option("--key", "key_id", metavar="ID", help="This one only; `npu-proxy keys list` shows the ids.")
@with_settings("data_dir", "redis_url")
def revoke(loaded: Loaded, name: str, key_id: str | None) -> None:
    """Revoke all keys of the user NAME, or one. The account and its jobs stay."""
    from ..accounts import open_users

    with open_users(loaded.settings) as users:
        revoked = users.revoke(name, key_id)
    if not revoked:
        what = "key" if key_id is None else f"key {key_id!r}"
        raise Failure(f"{name} has no {what} (any more): `npu-proxy keys list` shows who has which")
    click.echo(f"revoked {', '.join(revoked)} of {name}", err=True)


@keys.command()
@click.argument("name")
@with_settings("data_dir", "redis_url")
def rotate(loaded: Loaded, name: str) -> None:
    """Make a new key for the user NAME, print it, once, and revoke all their others in the same moment."""
    from ..accounts import open_users

    with open_users(loaded.settings) as users:
        _show(name, users.rotate(name))


def _show(name: str, key: str) -> None:
    click.echo(f"The key of {name}; it is not kept and cannot be shown again:", err=True)
    click.echo(key)


COMMANDS: tuple[click.Command, ...] = (keys,)
