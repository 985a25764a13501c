"""The fair order: what `scheduler/design.md` promises, on simulated devices; and that Redis keeps to the reference.

`python -m bench.fairness --full` does the same at full count."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import fairness_simulation as simulation
from bench.fairness_redis import ENGINE, Both, LuaOrder, StoreOrder
from bench.fairness_simulation import BoundWatch, Device, Fifo, RoundRobin, random_schedule
from jobs import keys
from scheduler.fairness import FairOrder

USERS = [keys.user_key(name) for name in "abcde"]
COST = 40_000


def run_in_redis(redis, order, seed, steps) -> BoundWatch:
    """A random schedule, the reference and Redis held equal after every event."""
    redis.flushdb()
    rnd = random.Random(seed)
    device = Device(Both(redis, order, USERS), slots=rnd.choice([1, 2, 4]))
    watch = BoundWatch(device, USERS)
    random_schedule(rnd, device, steps, USERS)
    return watch


def test_the_lua_rule_equals_the_reference_in_every_choice_counter_and_lane_account(redis):
    for seed in range(60):
        assert run_in_redis(redis, LuaOrder(redis), seed, 30).of_bound <= 1


def test_jobs_on_their_whole_way_through_redis_are_taken_and_charged_by_the_same_rule(redis, store):
    for seed in range(20):
        assert run_in_redis(redis, StoreOrder(store), seed, 30).of_bound <= 1


@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=st.integers(min_value=0), steps=st.integers(min_value=1, max_value=250))
def test_no_two_who_wait_are_served_unequally_by_more_than_the_bound_and_no_slot_idles_meanwhile(seed, steps):
    assert simulation.bound_used(random.Random(seed), FairOrder(), steps) <= 1


def test_the_bound_holds_over_long_schedules_too():
    for seed in range(5):
        assert simulation.bound_used(random.Random(seed), FairOrder(), 1500) <= 1


def test_round_robin_by_job_breaks_the_bound():
    assert max(simulation.bound_used(random.Random(seed), RoundRobin(), 400) for seed in range(20)) > 1


def test_weights_of_one_two_and_four_are_served_so():
    assert simulation.weight_error(FairOrder(), 2 * COST) <= 0.02
    assert simulation.weight_error(RoundRobin(), COST) > 0.5


def test_users_with_jobs_of_very_different_lengths_are_served_alike_where_round_robin_serves_the_longest():
    assert simulation.jain(FairOrder(), 2 * COST) >= 0.99
    assert simulation.jain(RoundRobin(), COST) < 0.5


@pytest.mark.parametrize("batch_waits", [False, True])
def test_a_user_back_from_idle_gets_half_beside_one_other_and_no_more(batch_waits):
    assert simulation.share_after_idle(FairOrder(), COST, batch_waits) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("many_at_once", [False, True])
def test_splitting_work_into_short_jobs_gains_nothing(many_at_once):
    assert simulation.split_gain(FairOrder(), COST, many_at_once) <= 0.02
    assert simulation.split_gain(Fifo(), COST, many_at_once=True) > 0.5


@pytest.mark.parametrize("light_first", [False, True])
def test_batch_gets_a_twentieth_while_interactive_is_backlogged_whatever_was_before(light_first):
    assert simulation.batch_part(FairOrder(), COST, light_first) == pytest.approx(0.05, abs=0.005)


def test_batch_gets_everything_while_nothing_interactive_waits():
    device = Device(FairOrder(), slots=2)
    assert simulation.backlogged(device, {"nightly": lambda: (10, 10)}, 1000, lane="batch")["nightly"] >= 1000


def test_a_flood_by_one_user_delays_nine_others_by_one_job_each_at_most():
    assert simulation.jobs_before_a_light_user(FairOrder()) <= 9
    assert simulation.jobs_before_a_light_user(Fifo()) > 500


def test_a_flood_in_redis_delays_another_user_by_one_job(redis):
    device = Device(LuaOrder(redis))
    for _ in range(1000):
        device.submit("flood", 5, 5)
    device.step()
    job = device.submit("light", 5, 5)
    while job.id in device.waiting:
        device.step()
    assert device.taken.index(job) <= 2


def test_a_counter_that_expires_while_others_do_not_makes_no_newcomer_come_first_for_ever(redis):
    order = LuaOrder(redis)
    device = Device(order)
    simulation.backlogged(device, {"old": lambda: (10, 10), "last": lambda: (10, 10)}, 10_000)
    for user in ("old", "last"):
        for job in [job for job in device.waiting.values() if job.user == user]:
            device.cancel(job)
    redis.delete(f"{keys.fair(ENGINE)}:counter:interactive:last")
    device.running.clear()
    got = simulation.backlogged(device, {"new": lambda: (10, 10), "old": lambda: (10, 10)}, 2000)
    assert got["new"] == pytest.approx(1000, abs=100)
