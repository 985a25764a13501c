"""Records, events and reports keep what they are given; keys keep to themselves."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import wire
from engines.base import End, GenerateTask, Sampling, Update
from jobs import keys, reports
from jobs.attempt import Attempt
from jobs.record import Job, JobError, Outcome, Usage, from_hash, is_job_id, new_id, outcome_from_json, to_hash, to_json
from jobs.reports import Report
from jobs.store import SIGN_OF_LIFE

TEXT = st.text(max_size=30)
COUNT = st.integers(0, 2**53)
JOBS = st.builds(
    Job,
    id=st.builds(lambda: new_id("job")),
    engine=st.sampled_from(["llm", "embed"]),
    endpoint=TEXT,
    model=TEXT,
    user=TEXT,
    task=TEXT,
    lane=st.sampled_from(["interactive", "batch"]),
    state=st.sampled_from(["queued", "in_progress"]),
    attempt=COUNT,
    crashes=COUNT,
    cancel=st.booleans(),
    created_ms=COUNT,
    run_timeout_ms=COUNT,
    ttl_s=COUNT,
    metadata=st.dictionaries(TEXT, TEXT, max_size=3),
    owner=TEXT,
    answer=st.dictionaries(TEXT, st.one_of(TEXT, COUNT, st.booleans(), st.none()), max_size=3),
)


@given(job=JOBS)
def test_a_record_comes_back_as_it_was(job):
    assert from_hash(to_hash(job)) == job


@given(text=TEXT, reason=TEXT, counts=st.tuples(COUNT, COUNT, COUNT, COUNT), vectors=st.lists(TEXT, max_size=3))
def test_an_outcome_comes_back_as_it_was(text, reason, counts, vectors):
    outcome = Outcome(text, reason, Usage(*counts), tuple(vectors))
    assert outcome_from_json(to_json(outcome)) == outcome


@given(code=TEXT, message=TEXT)
def test_an_error_comes_back_as_it_was(code, message):
    error = JobError(code, message)
    assert JobError(**json.loads(to_json(error))) == error


def test_a_record_with_fields_of_a_newer_version_can_be_read():
    job = Job(new_id("job"), "llm", "/v1/x", "m", "ann", "{}")
    assert from_hash({**to_hash(job), "colour": "green"}) == job


def test_ids_are_ours_and_none_comes_twice():
    ids = {new_id("job") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_job_id(i) and i.replace("_", "").isalnum() and i.isascii() for i in ids)


@given(names=st.sets(st.text(), min_size=2, max_size=5))
def test_no_two_owners_share_a_key_and_no_name_shows_in_one(names):
    made = {keys.owned_jobs(name) for name in names}
    assert len(made) == len(names)
    assert all(len(key) == len("npu:owner::jobs") + 32 and key.isascii() for key in made)


def test_every_key_of_a_job_is_under_its_id():
    made = [keys.job("job_a"), keys.events("job_a"), keys.channel("job_a")]
    assert len(set(made)) == 3
    assert all(key.startswith("npu:job:job_a") for key in made)


def test_reports_are_read_while_they_are_fresh_and_forgotten_after(redis):
    one = Report("w1", "llm", "m", "ready", device="CPU", slots=8, fallbacks=("no NPU on this machine",))
    two = Report("w2", "embed", "e", "loading", "loading e on CPU")
    reports.write(redis, two)
    reports.write(redis, one)
    assert reports.read_all(redis) == [one, two]
    assert 0 < redis.ttl(keys.worker("w1")) <= reports.REPORT_TTL_S

    redis.delete(keys.worker("w2"))
    assert reports.read_all(redis) == [one]
    assert redis.scard(keys.workers()) == 1
    reports.withdraw(redis, "w1")
    assert redis.keys() == []


def an_attempt(text="", tokens=(), published=0) -> Attempt:
    task = GenerateTask("job_a", "Hello", Sampling(10))
    job = Job(
        "job_a", "llm", "/x", "m", "ann", task=json.dumps(wire.task_to(task)), published=published, started_ms=1000
    )
    return Attempt(job, text, tokens)


def test_an_attempt_publishes_each_token_once_and_resumes_behind_all_of_them():
    attempt = an_attempt(" 1 2", (1, 2), published=2)
    task = attempt.engine_task()
    assert isinstance(task, GenerateTask)
    assert task.resume == (1, 2)
    assert attempt.unpublished() is SIGN_OF_LIFE

    attempt.take(Update("job_a", " 3", (3,)))
    first = attempt.unpublished()
    assert (first.before, first.count, json.loads(first.data)) == (2, 1, {"text": " 3", "tokens": [3]})
    assert attempt.unpublished() == first, "asking again, after a broken connection, gives the same"
    attempt.published()
    assert attempt.unpublished() is SIGN_OF_LIFE
    attempt.published()

    attempt.take(Update("job_a", " 4", (4,)))
    attempt.take(Update("job_a", " 5", (5,), end=End("stop")))
    attempt.take(Update("job_a", " 6", (6,)))
    last = attempt.unpublished()
    assert (last.before, last.count, json.loads(last.data)["text"]) == (3, 2, " 4 5")
    assert attempt.outcome().text == " 1 2 3 4 5"
    assert attempt.outcome().usage.completion_tokens == 5


@pytest.mark.parametrize(
    ("reason", "state"),
    [("stop", "completed"), ("length", "completed"), ("cancelled", "cancelled"), ("failed", "failed")],
)
def test_how_an_engine_ends_a_task_decides_the_jobs_state(reason, state):
    attempt = an_attempt()
    attempt.take(Update("job_a", end=End(reason, "code", "why")))
    assert attempt.ending is not None
    assert (attempt.ending.state, attempt.ending.finish_reason) == (state, reason)
    assert attempt.ending.error == (JobError("code", "why") if reason == "failed" else None)
