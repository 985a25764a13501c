"""Users and their keys, in a real Redis."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from redis import Redis

from jobs import keys
from jobs.connection import connect
from jobs.users import LONGEST_NAME, MOST_LIMIT, MOST_WEIGHT, BadAccount, UnknownUser, User, UserStore, Wishes
from scheduler.limits import UserLimits

#: The server is emptied before each test, not before each example; users of another example are no harm.
over_examples = limits(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

LETTERS = "abcXYZ059"
ANY_TEXT = st.text(st.characters(), max_size=200)  # Surrogates and control characters too.
LIKE_KEYS = st.one_of(
    ANY_TEXT,
    st.from_regex(r"npk_[A-Za-z0-9]{12}_[A-Za-z0-9]{32}", fullmatch=True),
    st.builds("npk_{}_{}".format, ANY_TEXT, ANY_TEXT),
    st.builds("npk_{}_{}".format, st.text(LETTERS, min_size=11, max_size=13), st.text(LETTERS, max_size=33)),
    st.sampled_from(["", "npk_", "npk__", "npk_none_" + "0" * 32, "a" * 1_000_000, "npk_*_*", "npk_a:keys_b", "\0"]),
)
NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=LONGEST_NAME)


@pytest.fixture
def users(redis: Redis) -> UserStore:
    store = UserStore(redis)
    store.find("")  # Redis learns the script at its first use.
    return store


def id_of(key: str) -> str:
    return key.split("_")[1]


def ids(users: UserStore, name: str) -> list[str]:
    return [key.id for account in users.list() if account.user.name == name for key in account.keys]


def commands(redis: Redis) -> int:
    """All commands Redis has carried out, those of scripts included, but for INFO itself."""
    stats = redis.info("commandstats")
    return sum(int(row["calls"]) for name, row in stats.items() if name != "cmdstat_info")


def test_a_key_finds_its_user_with_all_settings(users):
    key = users.create("alice", Wishes(2.5, 60, 1000, 5, 2, True))
    found = users.find(key)
    assert found == User("alice", 2.5, UserLimits(60, 1000, 5, 2), True, found.created_ms)


def test_a_new_user_has_the_weight_of_everybody_and_no_limits_of_their_own(users):
    found = users.find(users.create("alice"))
    assert (found.weight, found.limits, found.admin) == (1.0, UserLimits(), False)


def test_several_keys_of_one_name_are_one_user(users):
    first, second = users.create("alice"), users.create("alice", Wishes(weight=3))
    assert first != second
    assert users.find(first) == users.find(second)
    assert len(users.list()) == 1


def test_what_is_not_given_stays_and_zero_takes_a_limit_back(users):
    key = users.create("alice", Wishes(weight=3, requests_per_minute=9, max_queued=4, admin=True))
    users.create("alice", Wishes(requests_per_minute=0, admin=False))
    found = users.find(key)
    assert (found.weight, found.limits, found.admin) == (3.0, UserLimits(max_queued=4), False)


def test_of_a_key_only_a_salted_hash_is_kept(users, redis):
    key = users.create("alice")
    _, key_id, secret = key.split("_")
    record = redis.hgetall(keys.api_key(key_id))
    assert record["digest"] == hashlib.sha256((record["salt"] + secret).encode()).hexdigest()
    assert len(bytes.fromhex(record["salt"])) == 16
    everything = [redis.hgetall(name) for name in redis.keys() if redis.type(name) == "hash"] + redis.keys()
    assert secret not in str(everything)
    other = redis.hgetall(keys.api_key(id_of(users.create("alice"))))
    assert other["salt"] != record["salt"]


def test_the_secret_of_one_key_does_not_open_another(users):
    first, second = users.create("alice").split("_"), users.create("bob").split("_")
    assert users.find(f"npk_{first[1]}_{second[2]}") is None


def test_revoking_one_key_leaves_the_others(users):
    first, second = users.create("alice"), users.create("alice")
    assert users.revoke("alice", id_of(first)) == [id_of(first)]
    assert users.find(first) is None
    assert users.find(second) is not None


def test_revoking_all_keys_of_a_user_leaves_the_account_and_other_users(users):
    mine, other = [users.create("alice", Wishes(weight=2)) for _ in range(3)], users.create("bob")
    assert sorted(users.revoke("alice")) == sorted(map(id_of, mine))
    assert [users.find(key) for key in mine] == [None] * 3
    assert users.find(other) is not None
    assert users.find(users.create("alice")).weight == 2
    assert users.revoke("bob") == [id_of(other)]


def test_nobody_revokes_the_key_of_another(users):
    key = users.create("bob")
    users.create("alice")
    for wanted in (id_of(key), "*", "", "none", f"{id_of(key)}\n", keys.api_key(id_of(key))):
        assert users.revoke("alice", wanted) == []
    assert users.find(key) is not None
    assert len(ids(users, "alice")) == 1


def test_a_rotated_key_is_the_only_one_left(users):
    old = [users.create("alice", Wishes(weight=2)) for _ in range(2)]
    new = users.rotate("alice")
    assert [users.find(key) for key in old] == [None, None]
    assert users.find(new).weight == 2
    assert ids(users, "alice") == [id_of(new)]


@pytest.mark.parametrize("name", ["nobody", "", "\ud800", "\n", " alice", "x" * 65])
def test_a_user_who_was_never_made_cannot_be_changed(users, name):
    users.create("?")
    for change in (users.rotate, users.revoke):
        with pytest.raises(UnknownUser):
            change(name)
    assert len(users.list()) == 1
    assert len(ids(users, "?")) == 1


def test_has_keys_says_whether_anybody_has_one(users):
    assert not users.has_keys()
    users.create("alice")
    assert users.has_keys()
    users.revoke("alice")
    assert not users.has_keys()


@pytest.mark.parametrize("weight", [0.0, -0.0, -1.0, 1e-9, MOST_WEIGHT + 1, float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_none_is_refused_and_nothing_made(users, weight):
    with pytest.raises(BadAccount, match="the weight must be a number from 0.001 to 1000"):
        users.create("alice", Wishes(weight=weight))
    assert users.list() == []


@pytest.mark.parametrize("limit", [-1, MOST_LIMIT + 1])
@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute", "max_queued", "max_running"])
def test_a_limit_that_is_none_is_refused(users, name, limit):
    with pytest.raises(BadAccount, match=f"{name} must be a whole number from 0"):
        users.create("alice", Wishes(**{name: limit}))
    assert users.list() == []


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a\n", "a\tb", "a\0", "\x7f", "\ud800", "\u200b", "x" * 65])
def test_a_name_that_cannot_be_read_is_refused(users, name):
    with pytest.raises(BadAccount, match="a name has 1 to 64 printable characters"):
        users.create(name)


@over_examples
@given(mine=NAMES, other=NAMES)
def test_every_other_name_is_somebody_else(users, mine, other):
    key, others = users.create(mine), users.create(other)
    assert users.find(key).name == mine
    assert users.find(others).name == other
    users.revoke(other)
    assert (users.find(key) is None) == (mine == other)


@over_examples
@given(text=LIKE_KEYS)
def test_no_text_finds_an_account_or_is_an_error(users, redis, text):
    users.create("alice")
    before = sorted(redis.keys())
    assert users.find(text) is None
    assert sorted(redis.keys()) == before


@over_examples
@given(at=st.integers(0, 48), to=st.characters())
def test_a_key_with_one_other_character_is_nobodys(users, at, to):
    key = users.create("alice")
    changed = key[:at] + to + key[at + 1 :]
    assert (users.find(changed) is None) == (changed != key)


def test_every_text_costs_redis_as_much_as_a_good_key(users, redis, monkeypatch):
    good, revoked = users.create("alice"), users.create("alice")
    users.revoke("alice", id_of(revoked))
    sent: list[str] = []
    execute = redis.execute_command

    def note(*args, **options):
        sent.append(args[0])
        return execute(*args, **options)

    monkeypatch.setattr(redis, "execute_command", note)
    texts = [good, good[:-1] + "!", revoked, "npk_" + "a" * 12 + "_" + "b" * 32, "", "x" * 5000, "é:\0", "sk-none"]
    costs = []
    for text in texts:
        sent.clear()
        before = commands(redis)
        users.find(text)
        costs.append((commands(redis) - before, [command for command in sent if command != "INFO"]))
    assert costs == [(3, ["EVALSHA"])] * len(texts)  # The script and its two reads.


def test_changes_at_once_leave_whole_users(users, valkey):
    """Four at a time make, rotate and revoke keys of one user: what is listed is what opens, nothing else is left."""
    made: list[str] = []

    def work(number: int) -> None:
        with connect(valkey.url) as redis:
            own = UserStore(redis)
            for _ in range(10):
                made.append(own.create("alice", Wishes(weight=number + 1)))
                made.append(own.rotate("alice"))
                own.revoke("alice", id_of(made[-1]))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    last = users.rotate("alice")
    [account] = users.list()
    assert [key.id for key in account.keys] == [id_of(last)]
    assert [key for key in [*made, last] if users.find(key)] == [last]


def test_of_two_rotations_at_once_one_key_is_left(users, valkey, redis):
    users.create("alice")

    def rotate(_: int) -> str:
        with connect(valkey.url) as own:
            return UserStore(own).rotate("alice")

    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            keys_made = list(pool.map(rotate, range(2)))
            assert sum(users.find(key) is not None for key in keys_made) == 1
    assert len(redis.keys(keys.api_key("*"))) == 1
