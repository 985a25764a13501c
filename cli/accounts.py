"""Users and API keys for the command line: the way to them, and how they are listed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime

from redis.exceptions import RedisError

from jobs.connection import connect
from jobs.users import Account, BadAccount, UnknownUser, UserStore
from scheduler.limits import UserLimits

from . import redis_server
from .errors import BadSettings, Failure
from .settings import Settings


@contextmanager
def open_users(settings: Settings) -> Iterator[UserStore]:
    """The users, for one command; what goes wrong with them inside ends it as it should. Blocks until Redis runs."""
    with redis_server.running(settings) as url, connect(url) as redis:
        try:
            yield UserStore(redis)
        except BadAccount as error:
            raise BadSettings(str(error)) from None
        except UnknownUser as error:
            raise Failure(f"there is no user {str(error)!r}: `npu-proxy keys list` names them all") from None
        except RedisError as error:
            raise Failure(f"Redis went away ({error}): try again") from None


def as_json(accounts: Iterable[Account]) -> str:
    """An array of users; times in unix seconds. A limit of 0 is the server's."""
    rows = [
        {
            "name": account.user.name,
            "weight": account.user.weight,
            "admin": account.user.admin,
            "created_at": account.user.created_ms // 1000,
            "limits": asdict(account.user.limits),
            "keys": [{"id": key.id, "created_at": key.created_ms // 1000} for key in account.keys],
        }
        for account in accounts
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False)


def as_text(accounts: Iterable[Account]) -> Iterator[str]:
    """A line for each user, and below it one for each of their keys."""
    for account in accounts:
        user = account.user
        admin = ["admin"] if user.admin else []
        yield "  ".join([user.name, f"weight {user.weight:g}", *_limits(user.limits), *admin])
        for key in account.keys:
            yield f"  {key.id}  {datetime.fromtimestamp(key.created_ms / 1000):%Y-%m-%d %H:%M}"
        if not account.keys:
            yield "  no key"


def _limits(limits: UserLimits) -> list[str]:
    options = {
        "rpm": limits.requests_per_minute,
        "tpm": limits.tokens_per_minute,
        "max-queued": limits.max_queued,
        "max-running": limits.max_running,
    }
    return [f"{name} {limit}" for name, limit in options.items() if limit]
