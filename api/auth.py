"""Who asks: the user of an API key, or without keys whoever the request names.

With keys, a request brings one as `Authorization: Bearer KEY` (RFC 6750), which is what clients of OpenAI's API send.
It is looked up before anything of the body is read. Nothing is remembered between requests, so a key that is revoked
opens nothing any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import cast

from flask import Flask, g, has_request_context, request

from jobs.users import User, UserStore
from scheduler.limits import UserLimits

#: For those who look whether the server is there: load balancers, clients at their start.
OPEN = frozenset({"/", "/health", "/health/liveness", "/health/readiness"})
#: Tells of everybody's requests.
ADMINS_ONLY = frozenset({"/metrics"})


class NoKey(Exception):
    """The request has no key, or one that opens nothing; its text is for the caller."""


class AdminOnly(Exception):
    """The request needs an admin's key."""


@dataclass(frozen=True)
class Caller:
    """Whose request this is. Without keys `user` is empty: the request's `user` counts, else the client's address."""

    user: str = ""
    #: Whose jobs these are; without keys there is one owner, the server itself.
    owner: str = "local"
    weight: float = 1.0
    limits: UserLimits = field(default_factory=UserLimits)
    admin: bool = False

    def may_see(self, owner: str) -> bool:
        """Whether a job of that owner exists for this caller."""
        return self.admin or owner == self.owner


def caller() -> Caller:
    """The current request's caller."""
    return cast(Caller, g.caller) if has_request_context() and "caller" in g else Caller()


def owner_of(name: str) -> str:
    """The owner of a user's jobs; not the name alone, so that no user is the owner of what is made without keys."""
    return f"user:{name}"


def register(app: Flask, users: UserStore | None, defaults: UserLimits) -> None:
    """Find out who asks before each request is looked at further; `users` is None where keys are not asked for.

    A request then raises `NoKey`, `AdminOnly` or, as Redis is asked, its errors. `defaults` are the limits of whoever
    has none of their own.
    """

    @app.before_request
    def name_caller() -> None:
        path = request.url_rule.rule if request.url_rule else None  # None is a 404 or 405: they need a key, too.
        if users is None or path in OPEN:
            g.caller = Caller(limits=defaults)
            return
        user = users.find(bearer(request.headers.get("Authorization", "")))
        if user is None:
            raise NoKey("There is no such API key (any more).")
        if path in ADMINS_ONLY and not user.admin:
            raise AdminOnly
        g.caller = caller_of(user, defaults)


def bearer(header: str) -> str:
    """The key in an `Authorization` header. Raises `NoKey` if it has none."""
    scheme, _, key = header.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise NoKey("This server asks for an API key: send 'Authorization: Bearer KEY'.")
    return key.strip()


def caller_of(user: User, defaults: UserLimits) -> Caller:
    """An account as a caller."""
    limits = {row.name: getattr(user.limits, row.name) or getattr(defaults, row.name) for row in fields(UserLimits)}
    return Caller(user.name, owner_of(user.name), user.weight, UserLimits(**limits), user.admin)
