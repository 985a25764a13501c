"""The time inside Redis, from a real one's log."""

import pytest

from bench import fairness_latency
from bench.fairness_latency import Latency, at_depth, growth_of, in_redis_ms
from bench.sides import BenchError
from jobs.connection import connect
from jobs.store import JobStore
from tests.support.valkey import Valkey


@pytest.fixture
def redis(valkey: Valkey):
    with connect(valkey.url) as client:
        yield client


def test_every_call_is_found_and_takes_less_inside_than_outside(redis) -> None:
    submit, pick = at_depth(redis, JobStore(redis), depth=20, users=10, samples=fairness_latency.RUN)
    for latency in (submit, pick):
        assert len(latency.round_trips) == len(latency.in_redis) == fairness_latency.RUN
        assert 0 < min(latency.in_redis) < max(latency.round_trips)


def test_calls_that_the_log_does_not_have_are_an_error(redis) -> None:
    with pytest.raises(BenchError, match="5 scripts were run and 0 logged"):
        in_redis_ms(redis, redis.ping, 5)


def test_growth_is_that_of_a_percentile_inside() -> None:
    least, most = Latency([9.0], [0.1] * 98 + [0.2] * 2), Latency([9.0], [0.1] * 98 + [0.5] * 2)
    assert growth_of(least, most, 99) == pytest.approx(2.5)
    assert growth_of(least, most, 50) == 1.0
