"""A Redis that is full takes no further job; those it has go on, and end."""

import pytest
from redis.exceptions import OutOfMemoryError

from engines.base import Sampling
from jobs.request import GenerateRequest, Terms
from tests.support.answers import assert_whole, follow
from tests.support.waiting import until

REQUEST = GenerateRequest("/test", "fake-llm", Sampling(60), prompt="hello", param="prompt")


@pytest.fixture
def room(redis):
    """Sets how much memory Redis may use; 0 for any amount."""
    yield lambda limit: redis.config_set("maxmemory", limit)
    redis.config_set("maxmemory", 0)


def test_jobs_that_run_and_jobs_that_wait_end_while_new_ones_are_refused(
    start_worker, redis, valkey, store, submitter, hub, room
):
    worker = start_worker(redis, valkey.url, slots=1, fake_token_ms=5).until_ready()
    jobs = [submitter.prepare(REQUEST, Terms("ann")) for _ in range(3)]
    for job in jobs:
        submitter.enqueue(job)
    until(lambda: store.get(jobs[0].id).published > 3, what="the first job's beginning")
    room("1mb")
    with pytest.raises(OutOfMemoryError):
        submitter.enqueue(submitter.prepare(REQUEST, Terms("bob")))
    for job in jobs:
        assert_whole(follow(hub, job), 60)
    assert worker.report().state == "ready"
    assert "Traceback" not in worker.log
    room(0)
    later = submitter.prepare(REQUEST, Terms("bob"))
    submitter.enqueue(later)
    assert_whole(follow(hub, later), 60)
