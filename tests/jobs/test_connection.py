"""The clients of Redis, when it stands still: it takes connections and answers nothing."""

import threading
import time

import pytest
from redis.exceptions import TimeoutError

from jobs import connection
from jobs.connection import connect_impatient
from jobs.hub import EventHub
from tests.support.waiting import until


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT_S", 0.3)
    monkeypatch.setattr(connection, "SILENCE_S", 0.3)


@pytest.fixture
def stopped(own_valkey):
    own_valkey.pause()
    yield own_valkey
    own_valkey.resume()


def took_s(command) -> float:
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        command()
    return time.monotonic() - begun


def test_only_the_first_command_waits_for_an_answer_that_does_not_come(hasty, stopped):
    with connect_impatient(stopped.url) as redis:
        assert 0.25 < took_s(redis.ping) < 3
        for command in (redis.ping, redis.pipeline().ping().execute, redis.register_script("return 1")):
            assert took_s(command) < 0.1
        stopped.resume()
        until(lambda: not isinstance(attempt(redis), TimeoutError), what="the next try")
        assert redis.pipeline().ping().execute() == [True]


def attempt(redis) -> object:
    try:
        return redis.ping()
    except TimeoutError as error:
        return error


def test_after_a_pause_one_command_tries_again_and_the_others_do_not_wait_for_it(hasty, stopped, monkeypatch):
    with connect_impatient(stopped.url) as redis:
        took_s(redis.ping)
        time.sleep(connection.SILENCE_S)
        found: list[float] = []
        threads = [threading.Thread(target=lambda: found.append(took_s(redis.ping))) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sum(each > 0.25 for each in found) == 1


def test_followers_do_not_wait_for_a_connection_that_is_not_made(hasty, stopped):
    """Each would wait for the one before, as they share it."""
    with connect_impatient(stopped.url) as redis, connect_impatient(stopped.url) as listening:
        hub = EventHub(redis, listening)
        hub._started = True  # Its listener would try again for ever.
        begun = time.monotonic()
        for number in range(5):
            with hub.subscribed(f"job_{number}"):
                pass
        assert time.monotonic() - begun < 0.25
