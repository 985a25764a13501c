"""A user's minute: what `scheduler.limits` promises, and that Lua keeps to it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import keys
from scheduler import limits
from scheduler.limits import WINDOW_S, Admission, Minute, UserLimits

TEN = UserLimits(requests_per_minute=10, tokens_per_minute=100)
TAKE = "return limits.take(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))"
GIVE_BACK = "limits.give_back(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))"


class LuaMinute:
    def __init__(self, redis, user="ann"):
        self.key = keys.minute(keys.user_key(user))
        self._take, self._give = (redis.register_script(limits.script() + text) for text in (TAKE, GIVE_BACK))

    def take(self, user_limits, now_s, tokens) -> Admission:
        args = [now_s, user_limits.requests_per_minute, user_limits.tokens_per_minute, tokens]
        return Admission(*self._take(keys=[self.key], args=args))

    def give_back(self, second, tokens):
        self._give(keys=[self.key], args=[second, tokens])


@st.composite
def asked(draw):
    """Limits, and requests in the order of time: seconds since the one before, tokens, the part given back later."""
    most = UserLimits(draw(st.integers(0, 6)), draw(st.integers(0, 60)))
    return most, draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30), st.floats(0, 1)), max_size=40))


@given(asked())
def test_no_sixty_seconds_ever_hold_more_than_the_limits(plan):
    most, requests = plan
    minute, now_s, taken = Minute(), 1_000, []
    for pause_s, tokens, _ in requests:
        now_s += pause_s
        if minute.take(most, now_s, tokens).accepted:
            taken.append((now_s, tokens))
    for end_s, _ in taken:
        window = [tokens for second, tokens in taken if end_s - WINDOW_S < second <= end_s]
        assert not most.requests_per_minute or len(window) <= most.requests_per_minute
        assert not most.tokens_per_minute or sum(window) <= most.tokens_per_minute


@given(asked())
def test_who_is_refused_is_told_when_there_is_room_and_not_a_second_early_or_late(plan):
    most, requests = plan
    minute, now_s = Minute(), 1_000
    for pause_s, tokens, _ in requests:
        now_s += pause_s
        told = minute.take(most, now_s, tokens)
        if told.accepted or not told.retry_after_s:
            assert told.accepted or tokens > most.tokens_per_minute
            continue
        assert not minute.take(most, now_s + told.retry_after_s - 1, tokens).accepted
        now_s += told.retry_after_s
        assert minute.take(most, now_s, tokens).accepted


def test_lua_equals_the_reference_in_every_answer(redis):
    for seed in range(60):
        rnd = random.Random(seed)
        most = UserLimits(rnd.choice([0, 1, 3, 8]), rnd.choice([0, 5, 40, 200]))
        minute, in_redis, now_s, taken = Minute(), LuaMinute(redis, f"user{seed}"), 1_000, []
        for _ in range(60):
            now_s += rnd.choice([0, 0, 0, 1, 7, 30, 61])
            tokens = rnd.randint(0, 30)
            told = minute.take(most, now_s, tokens)
            assert in_redis.take(most, now_s, tokens) == told
            if told.accepted:
                taken.append((now_s, tokens))
            if taken and rnd.random() < 0.3:
                second, tokens = taken.pop(rnd.randrange(len(taken)))
                minute.give_back(second, tokens // 2)
                in_redis.give_back(second, tokens // 2)


def test_what_is_left_and_when_all_of_it_is_left_again():
    minute = Minute()
    minute.take(TEN, 100, 30)
    told = minute.take(TEN, 110, 20)
    assert (told.requests_left, told.tokens_left) == (8, 50)
    assert (told.requests_reset_s, told.tokens_reset_s) == (WINDOW_S + 1, WINDOW_S + 1)


def test_what_could_never_be_granted_is_not_worth_a_retry():
    told = Minute().take(TEN, 100, 101)
    assert (told.verdict, told.retry_after_s) == ("tokens", 0)


def test_the_longer_of_two_waits_is_told():
    minute = Minute()
    minute.take(TEN, 100, 95)
    for second in range(101, 110):
        minute.take(TEN, second, 0)
    told = minute.take(TEN, 120, 1)
    assert (told.verdict, told.retry_after_s) == ("requests", 100 + WINDOW_S + 1 - 120)
    assert minute.take(TEN, 120, 6).verdict == "requests"


def test_tokens_given_back_can_be_asked_for_again():
    minute = Minute()
    minute.take(TEN, 100, 100)
    assert not minute.take(TEN, 101, 1).accepted
    minute.give_back(100, 60)
    assert minute.take(TEN, 102, 60).accepted


def test_tokens_given_back_too_late_bring_nothing_back(redis):
    minute = LuaMinute(redis)
    minute.take(TEN, 100, 50)
    minute.take(TEN, 100 + WINDOW_S + 1, 0)
    minute.give_back(100, 40)
    assert not redis.hexists(minute.key, "t100")


def test_a_minute_is_forgotten_by_itself(redis):
    minute = LuaMinute(redis)
    minute.take(TEN, 100, 50)
    assert 0 < redis.ttl(minute.key) <= 2 * WINDOW_S


@pytest.mark.parametrize("count", [1, 3_000])
def test_a_minute_takes_no_more_room_than_its_seconds(redis, count):
    minute = LuaMinute(redis)
    for number in range(count):
        minute.take(UserLimits(10**6, 10**6), 100 + number, 1)
    assert redis.hlen(minute.key) <= 2 * (WINDOW_S + 1)
