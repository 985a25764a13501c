"""Following a job's events: nothing lost, nothing twice, whatever happens to the connection."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import events, keys
from jobs.connection import connect
from jobs.events import Event, is_event_id, token_data
from jobs.hub import RECHECK_S, EventHub, Follower, _Subscriber
from jobs.record import Outcome
from jobs.store import JobStore, Tokens
from tests.jobs.test_scripts import a_job, claimed, finish, publish, word
from tests.support.answers import assert_whole, follow, numbered
from tests.support.waiting import until


@pytest.fixture
def attempt(store):
    job = a_job()
    store.create(job)
    return claimed(store, job)


def complete(store, attempt, first, last, end=True):
    """Publish these words, and the end."""
    for number in range(first, last + 1):
        assert publish(store, attempt, word(number)) == "ok"
    if end:
        finish(store, attempt, "completed", Outcome(numbered(last)))


def hear(hub, attempt, heard, after=events.START) -> threading.Thread:
    """Follow in a thread, into `heard`."""

    def run() -> None:
        with hub.subscribed(attempt.id) as follower:
            heard.extend(event for event in follower.follow(after, 0.05) if event is not None)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_who_comes_before_the_job_hears_all_of_it(hub, store):
    job = a_job()
    with hub.subscribed(job.id) as follower:
        store.create(job)
        complete(store, claimed(store, job), 1, 20)
        assert_whole([event for event in follower.follow() if event], 20)


@pytest.mark.parametrize("already", [0, 1, 50, 100])
def test_who_comes_late_loses_nothing_and_gets_nothing_twice(hub, store, attempt, already):
    complete(store, attempt, 1, already, end=False)
    heard: list[Event] = []
    thread = hear(hub, attempt, heard)
    complete(store, attempt, already + 1, 100)
    thread.join(10)
    assert_whole(heard, 100)


def test_who_comes_after_the_end_hears_it_from_the_log(hub, store, attempt):
    complete(store, attempt, 1, 30)
    assert_whole(follow(hub, attempt), 30)


def test_who_comes_back_with_the_last_id_gets_the_rest_only(hub, store, attempt):
    complete(store, attempt, 1, 30)
    whole = follow(hub, attempt)
    for cut in (1, 7, len(whole) - 1):
        assert follow(hub, attempt, after=whole[cut - 1].id) == whole[cut:]


def test_several_followers_of_one_job_each_hear_all_of_it(hub, store, attempt):
    heard: list[list[Event]] = [[] for _ in range(5)]
    threads = [hear(hub, attempt, each) for each in heard[:3]]
    complete(store, attempt, 1, 40, end=False)
    threads += [hear(hub, attempt, each) for each in heard[3:]]
    complete(store, attempt, 41, 80)
    for thread in threads:
        thread.join(10)
    for each in heard:
        assert_whole(each, 80)


def test_when_one_follower_leaves_the_others_hear_on(hub, store, attempt):
    heard: list[Event] = []
    thread = hear(hub, attempt, heard)
    with hub.subscribed(attempt.id):
        pass
    complete(store, attempt, 1, 20)
    thread.join(10)
    assert_whole(heard, 20)


def test_nobody_follows_a_job_that_nobody_asked_for(hub, store, redis, attempt):
    with hub.subscribed(attempt.id):
        assert redis.pubsub_numsub(keys.channel(attempt.id)) == [(keys.channel(attempt.id), 1)]
    until(lambda: redis.pubsub_numsub(keys.channel(attempt.id))[0][1] == 0, what="the end of the subscription")
    assert attempt.id not in str(hub._subscribers)


def test_a_connection_killed_in_mid_stream_loses_nothing(hub, store, redis, attempt):
    heard: list[Event] = []
    thread = hear(hub, attempt, heard)
    for block in range(4):
        complete(store, attempt, 50 * block + 1, 50 * block + 25, end=False)
        assert redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub") >= 1
        complete(store, attempt, 50 * block + 26, 50 * block + 50, end=False)
        until(lambda: len(heard) >= 50 * block + 50, what="what was sent while the connection was down")  # noqa: B023
    finish(store, attempt)
    thread.join(10)
    assert_whole(heard, 200)


def test_an_event_is_heard_at_once_not_when_the_log_is_read_again(hub, store, attempt):
    heard: list[Event] = []
    thread = hear(hub, attempt, heard)
    until(lambda: len(heard) == 2, what="the log so far")
    for number in range(1, 6):
        publish(store, attempt, word(number))
        until(lambda: len(heard) == 2 + number, RECHECK_S / 4, "the token")  # noqa: B023
    finish(store, attempt)
    thread.join(10)
    assert_whole(heard, 5)


def test_without_a_single_message_events_come_from_the_log_within_a_second_or_so(store, redis, attempt):
    """As when Redis refuses subscriptions: the hub's connection leads nowhere."""
    with connect("unix:///nonexistent", blocking=True) as nowhere:
        deaf = EventHub(redis, nowhere)
        heard: list[Event] = []
        # Its listener would try again for ever.
        deaf._started = True
        thread = hear(deaf, attempt, heard)
        until(lambda: len(heard) == 2, what="the log so far")
        complete(store, attempt, 1, 10)
        thread.join(4)
        assert not thread.is_alive()
        assert_whole(heard, 10)


def test_silence_is_told_and_a_log_that_is_gone_ends_it(hub, store, redis, attempt):
    with hub.subscribed(attempt.id) as follower:
        following: Iterator[Event | None] = follower.follow(tick_s=0.05)
        assert [e.name for e in (next(following), next(following)) if e] == ["status", "status"]
        assert next(following) is None
        redis.delete(keys.events(attempt.id))
        assert set(following) == {None}


def test_what_another_job_says_is_not_heard(hub, store, attempt):
    other = a_job()
    store.create(other)
    heard: list[Event] = []
    thread = hear(hub, attempt, heard)
    complete(store, claimed(store, other), 1, 5)
    complete(store, attempt, 1, 3)
    thread.join(10)
    assert_whole(heard, 3)


@settings(max_examples=30, deadline=None)
@given(text=st.text(), tokens=st.lists(st.integers(0, 300_000), max_size=5))
def test_any_text_comes_through_as_it_was(_shared_hub, shared_valkey, text, tokens):
    with connect(shared_valkey.url) as redis:
        store = JobStore(redis)
        store.load_scripts()
        job = a_job()
        store.create(job)
        attempt = store.claim("llm", job.id, "w", "CPU")
        assert attempt is not None
        with _shared_hub.subscribed(job.id) as follower:
            following = follower.follow(tick_s=0.05)
            next(following), next(following)
            publish(store, attempt, Tokens(0, len(tokens), token_data(text, tokens)))
            event = next(e for e in following if e)
            assert event.json() == {"text": text, "tokens": tokens}
        assert events.produced(redis, job.id) == (text, tuple(tokens))


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("0-0", True),
        ("1700000000000-12", True),
        (f"{2**64 - 1}-{2**64 - 1}", True),
        (f"{2**64}-0", False),
        ("", False),
        ("1", False),
        ("-", False),
        ("1-1-1", False),
        ("+", False),
        ("1-1\n", False),
        ("x-1", False),
        ("٣-١", False),
    ],
)
def test_only_what_redis_takes_for_an_id_is_one(text, valid):
    assert is_event_id(text) is valid


# --- the check that finds a lost token does find it


def lost_in_the_script(store, attempt):
    """The script counts a step but appends nothing: lost between worker and Redis."""
    publish_script = store._scripts["publish"]
    silent = publish_script.script
    silent = silent.decode() if isinstance(silent, bytes) else silent
    store._scripts["publish"] = store.redis.register_script(silent.replace("append(KEYS[2]", "string.len(KEYS[2]"))
    store.load_scripts()
    publish(store, attempt, word(6))
    store._scripts["publish"] = publish_script


def lost_before_the_worker(store, attempt):
    """The sixth update never came: what follows is published as if it did not exist."""
    number = 7
    publish(store, attempt, Tokens(5, 1, token_data(f" {number}", [number])))


def published_twice(store, attempt):
    publish(store, attempt, replace(word(5), before=5))
    publish(store, attempt, replace(word(6), before=6))


@pytest.mark.parametrize("fault", [lost_in_the_script, lost_before_the_worker, published_twice])
def test_a_token_that_is_lost_or_comes_twice_on_the_way_is_found(hub, store, attempt, fault):
    heard: list[Event] = []
    thread = hear(hub, attempt, heard)
    complete(store, attempt, 1, 5, end=False)
    fault(store, attempt)
    published = store.get(attempt.id).published
    for number in range(published + 1, 11):
        publish(store, attempt, word(number))
    finish(store, attempt)
    thread.join(10)
    assert [heard[0].name, heard[-1].name] == ["status", "done"]
    with pytest.raises(AssertionError):
        assert_whole(heard, 10)


@pytest.mark.parametrize("lost", range(2, 12))
def test_any_single_event_that_a_client_misses_is_found(hub, store, attempt, lost):
    complete(store, attempt, 1, 10)
    heard = follow(hub, attempt)
    assert_whole(heard, 10)
    with pytest.raises(AssertionError):
        assert_whole(heard[:lost] + heard[lost + 1 :], 10)
    with pytest.raises(AssertionError):
        assert_whole(heard[: lost + 1] + heard[lost:], 10)


def test_no_token_is_lost_between_worker_and_client(worker, submit, hub):
    """Many fast streams, with clients that come before, during and after."""
    worker(slots=8, fake_token_ms=0.5)
    heard: list[list[Event]] = [[] for _ in range(16)]
    jobs, threads = [], []
    for each in heard:
        jobs.append(submit("Hello", max_tokens=300))
        threads.append(hear(hub, jobs[-1], each))
    late: list[list[Event]] = [[] for _ in jobs]
    threads += [hear(hub, job, each) for job, each in zip(jobs, late, strict=True)]
    for thread in threads:
        thread.join(20)
    for each in [*heard, *late]:
        assert_whole(each, 300)


def test_an_event_before_a_late_confirmation_is_not_lost(hub, store, attempt, monkeypatch):
    """Redis confirms the subscription only after the log was read, over a new connection."""
    monkeypatch.setattr("jobs.hub.CONFIRM_S", 0.01)
    subscriber = _Subscriber()
    heard: Iterator[Any] = Follower(store.redis, attempt.id, subscriber).follow(tick_s=5)
    assert [next(heard).name for _ in range(2)] == ["status", "status"]
    publish(store, attempt, word(1))  # It was not heard: nobody had subscribed.
    subscriber.confirm()
    publish(store, attempt, word(2))
    subscriber.inbox.put(events.read(store.redis, attempt.id)[-1])
    assert [next(heard).json()["text"] for _ in range(2)] == [" 1", " 2"]
