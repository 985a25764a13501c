"""Users and their API keys in Redis: accounts, and who a key belongs to.

A key reads `npk_ID_SECRET`. The id is no secret: it finds the record and names the key in lists. Of the secret only
SHA-256 over a salt of the key's own and the secret is kept, so who reads Redis has no key. A hash that is fast is
right here, unlike for passwords: slow ones make up for secrets that can be guessed, and 32 random letters and digits
(190 bits) cannot. NIST SP 800-63B, 5.1.2.2, asks for a one-way function alone from 112 bits on. A slow one would only
give strangers a way to keep the server busy.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from redis import Redis

from jobs import keys
from jobs.store import now_ms
from scheduler.limits import UserLimits

LONGEST_NAME = 64
#: A user of more weight would leave nothing to others; of less than this part of it, they would get nothing.
MOST_WEIGHT = 1000.0
LEAST_WEIGHT = 0.001
MOST_LIMIT = 1_000_000_000

_ALPHABET = string.ascii_letters + string.digits
_ID_LENGTH = 12
_SECRET_LENGTH = 32
_ID = re.compile(rf"[A-Za-z0-9]{{{_ID_LENGTH}}}")
_KEY = re.compile(rf"npk_([A-Za-z0-9]{{{_ID_LENGTH}}})_([A-Za-z0-9]{{{_SECRET_LENGTH}}})")

#: What is looked up and hashed for a text that is no key; the id is one that none has.
_NO_ID, _NO_SECRET, _NO_SALT, _NO_DIGEST = "none", "0" * _SECRET_LENGTH, "0" * 32, "0" * 64

_SCRIPTS = Path(__file__).parent / "scripts"


class BadAccount(ValueError):
    """A name or setting that no user can have; the text says what is allowed."""


class UnknownUser(LookupError):
    """There is no account of that name."""


@dataclass(frozen=True)
class User:
    """An account. Limits that are 0 are the server's."""

    name: str
    #: The part of the device they get beside others.
    weight: float = 1.0
    limits: UserLimits = field(default_factory=UserLimits)
    #: Sees and cancels the jobs of all, and reads the metrics.
    admin: bool = False
    created_ms: int = 0


@dataclass(frozen=True)
class Wishes:
    """What is to change of a user's settings. None leaves one as it is; a limit of 0 is the server's."""

    weight: float | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_queued: int | None = None
    max_running: int | None = None
    admin: bool | None = None


NO_WISHES = Wishes()


@dataclass(frozen=True)
class Key:
    """What can be told of a key."""

    id: str
    created_ms: int


@dataclass(frozen=True)
class Account:
    """A user with their keys, the oldest first."""

    user: User
    keys: tuple[Key, ...]


class UserStore:
    """Reads and changes accounts and keys. Thread-safe. Every method raises redis's errors, and all but `list` are one
    round trip. Every change is one script: two at once are as one after the other."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._find, self._change = (
            redis.register_script((_SCRIPTS / f"{name}.lua").read_text()) for name in ("find_key", "change_keys")
        )

    def find(self, text: str) -> User | None:
        """The user whose key this is, as of now; None if it is nobody's: revoked, never made, or any other text.

        Takes as long for each of them: one round trip, one hash, one comparison in constant time. A text that does not
        have the shape of a key goes nowhere.
        """
        shape = _KEY.fullmatch(text)
        key_id, secret = shape.groups() if shape else (_NO_ID, _NO_SECRET)
        found, account = map(_record, self._find(keys=[keys.api_key(key_id)], args=[keys.account("")]))
        digest = _digest(found.get("salt", _NO_SALT), secret)
        right = hmac.compare_digest(digest, found.get("digest", _NO_DIGEST))
        return _user(account) if right and account else None

    def create(self, name: str, wishes: Wishes = NO_WISHES) -> str:
        """Make a key for a user, who is made too if new, and change their settings; the key, which cannot be read
        again. Raises `BadAccount`."""
        if not _is_name(name):
            raise BadAccount(f"a name has 1 to {LONGEST_NAME} printable characters and no blank at its ends")
        key_id, secret = _random(_ID_LENGTH), _random(_SECRET_LENGTH)
        self._run(name, new=(key_id, secret), settings={"name": name, **_checked(wishes)})
        return f"npk_{key_id}_{secret}"

    def rotate(self, name: str) -> str:
        """Make a key for a user and revoke all others of theirs in the same step; the new key. Raises `UnknownUser`."""
        key_id, secret = _random(_ID_LENGTH), _random(_SECRET_LENGTH)
        self._run(name, new=(key_id, secret), revoke="*")
        return f"npk_{key_id}_{secret}"

    def revoke(self, name: str, key_id: str | None = None) -> Sequence[str]:
        """Revoke one key of a user, or all; the ids of those that were. From now on `find` does not know them; account
        and jobs stay. Raises `UnknownUser`."""
        if key_id is not None and not _ID.fullmatch(key_id):
            key_id = _NO_ID
        return self._run(name, revoke="*" if key_id is None else key_id)

    def list(self) -> list[Account]:
        """All accounts by name. Two round trips."""
        users = sorted(self._redis.smembers(keys.accounts()))
        with self._redis.pipeline(transaction=True) as pipe:
            for user in users:
                pipe.hgetall(keys.account(user))
                pipe.zrange(keys.account_keys(user), 0, -1, withscores=True)
            answers = pipe.execute()
        accounts = [
            Account(_user(record), tuple(Key(key_id, int(made_ms)) for key_id, made_ms in made))
            for record, made in zip(answers[::2], answers[1::2], strict=True)
        ]
        return sorted(accounts, key=lambda account: account.user.name)

    def has_keys(self) -> bool:
        """Whether anybody has a key."""
        return any(account.keys for account in self.list())

    def _run(
        self,
        name: str,
        *,
        new: tuple[str, str] = ("", ""),
        revoke: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> Sequence[str]:
        if not _is_name(name):
            raise UnknownUser(name)
        user, salt = keys.user_key(name), secrets.token_hex(16)
        key_id, secret = new
        at = [keys.account(user), keys.account_keys(user), keys.accounts(), keys.api_key(key_id or _NO_ID)]
        pairs = [text for pair in (settings or {}).items() for text in pair]
        must_be = int(settings is None)
        args = [user, keys.api_key(""), revoke, must_be, now_ms(), key_id, salt, _digest(salt, secret), *pairs]
        revoked: Sequence[str] | None = self._change(keys=at, args=args)
        if revoked is None:
            raise UnknownUser(name)
        return revoked


def _is_name(name: str) -> bool:
    return 1 <= len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip()


def _checked(wishes: Wishes) -> dict[str, str]:
    """The fields to set. Raises `BadAccount`."""
    weight = wishes.weight
    # NaN is in no range.
    if weight is not None and not (math.isfinite(weight) and LEAST_WEIGHT <= weight <= MOST_WEIGHT):
        raise BadAccount(f"the weight must be a number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}, not {weight:g}")
    limits = {row.name: getattr(wishes, row.name) for row in fields(UserLimits)}
    for name, limit in limits.items():
        if limit is not None and not 0 <= limit <= MOST_LIMIT:
            raise BadAccount(f"{name} must be a whole number from 0 (the server's limit) to {MOST_LIMIT}, not {limit}")
    admin = None if wishes.admin is None else int(wishes.admin)
    wanted = {"weight": weight, "admin": admin, **limits}
    return {name: str(value) for name, value in wanted.items() if value is not None}


def _user(record: Mapping[str, str]) -> User:
    return User(
        name=record["name"],
        weight=float(record.get("weight", 1)),
        limits=UserLimits(**{row.name: int(record.get(row.name, 0)) for row in fields(UserLimits)}),
        admin=record.get("admin") == "1",
        created_ms=int(record["created_ms"]),
    )


def _record(pairs: Sequence[str]) -> dict[str, str]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256((salt + secret).encode()).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
