"""A worker dies between any two of its scripts: what it left is taken up, each job ends once, whole and paid once."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from redis import Redis

from jobs import events
from jobs.hub import EventHub
from jobs.record import Job
from jobs.store import JobStore
from scheduler.fairness import COMPLETION_COST, PROMPT_COST
from scheduler.queue import engine_queue
from tests.conftest import StartWorker, Submit
from tests.faults.conftest import Figure, Times
from tests.support.answers import assert_whole, numbered
from tests.support.readers import Reader
from tests.support.waiting import until
from tests.support.workers import Rules, Worker

TOKENS = 150
PROMPT = "one two three"
WEIGHT = 2.0
LIMIT_S = 60.0
#: Passes of a point before the worker dies there, by turns.
DEPTHS = (0, 1, 7, 30)


@dataclass
class House:
    """A queue with one worker at a time, and the jobs it was given."""

    redis: Redis
    store: JobStore
    hub: EventHub
    submit: Submit
    start: Callable[[str], Worker]
    readers: list[Reader] = field(default_factory=list)
    #: Jobs that fail by design: they were running at two crashes.
    doomed: set[str] = field(default_factory=set)
    lived: list[Worker] = field(default_factory=list)

    def open(self, armed: str = "") -> Worker:
        """Start a worker, which dies at that point."""
        self.lived.append(self.start(armed))
        return self.lived[-1]

    @property
    def worker(self) -> Worker:
        """The one that was started last."""
        return self.lived[-1]

    def add_jobs(self, count: int = 2) -> list[Reader]:
        added = [
            Reader(self.hub, self.submit(PROMPT, TOKENS, weight=WEIGHT, detached=True)) for _ in range(count)
        ]
        self.readers += added
        return added

    def assert_settled(self) -> None:
        """Every job ended once, whole; their user has paid for what they got; and nothing is left that stays."""
        paid = 0.0
        for reader in self.readers:
            done = self._assert_ended(reader)
            paid += (PROMPT_COST * done.prompt_tokens + COMPLETION_COST * done.tokens) / WEIGHT
        redis, user = self.redis, self.readers[0].job.user_key
        assert float(redis.get(f"npu:fair:llm:counter:interactive:{user}")) == paid
        assert redis.zcard("npu:leases:llm") == redis.zcard("npu:deadlines:llm") == 0
        assert redis.keys("npu:fair:llm:running:*") == redis.keys("npu:fair:llm:line:*") == []
        assert redis.llen("rq:queue:llm:intermediate") == redis.llen("rq:queue:llm") == 0
        assert self.store.depth("llm") == 0
        until(lambda: redis.llen("npu:fair:llm:wake") == 0, what="the last wake token")

    def _assert_ended(self, reader: Reader) -> Job:
        reader.log(LIMIT_S)
        log, done = events.read(self.redis, reader.job.id), self.store.get(reader.job.id)
        assert [event.id for event in reader.log()] == [event.id for event in log]
        assert done is not None
        if reader.job.id in self.doomed:
            assert_whole(log, done.tokens, "failed")
            assert done.error is not None
            assert (done.error.code, done.crashes) == ("worker_crashed", 2)
        else:
            assert done.error is None, (done.error, done.crashes, done.attempt, [event.data for event in log])
            assert_whole(log, TOKENS)
            assert done.outcome is not None
            assert (done.outcome.text, done.tokens) == (numbered(TOKENS), TOKENS)
        return done

    def assert_rq_forgets(self) -> None:
        """When time has passed, RQ's own cleaning has emptied what does not expire by itself."""
        queue = engine_queue(self.redis, "llm")
        queue.started_job_registry.cleanup(timestamp=2**33)
        slots = self.redis.smembers("rq:workers") | self.redis.smembers("rq:workers:llm")
        for key in [*slots, *self.redis.keys("rq:*")]:
            # Sets of slots: each maintenance takes out those that have expired. Sums: one key a queue.
            if key not in ("rq:workers", "rq:workers:llm", "rq:queues"):
                assert self.redis.ttl(key) != -1, key


@pytest.fixture
def house(
    start_worker: StartWorker, submit: Submit, redis, valkey, store, hub, times: Times
) -> House:
    # In the short form an id does not lie for five seconds before its picker counts as dead.
    rules = Rules(popped_limit_ms=times(300, Rules.popped_limit_ms), report_ms=times(200, Rules.report_ms))

    def start(armed: str) -> Worker:
        return start_worker(redis, valkey.url, rules=replace(rules, armed=armed), slots=4, fake_token_ms=3)

    return House(redis, store, hub, submit, start)


def die_at_pick(house: House, passes: int) -> None:
    house.worker.arm("picked", passes % 2)
    house.add_jobs()
    house.worker.until_dead()


def die_at_claim(house: House, passes: int) -> None:
    house.worker.arm("claimed", passes % 2)
    house.add_jobs()
    house.worker.until_dead()


def die_amid_the_answer(house: House, passes: int) -> None:
    house.worker.arm("published", passes)
    house.add_jobs()
    house.worker.until_dead()


def die_when_the_engine_has(house: House, passes: int) -> None:
    first, second = house.add_jobs()
    for reader in (first, second):
        reader.until_tokens(2)
    house.worker.arm("crash_counted", passes % 2)
    house.worker.crash_engine()
    house.worker.until_dead()
    # Both crashes count, and the engine's was counted for one job, or for both.
    ids = (first.job.id, second.job.id)
    hit = {job_id for job_id in ids if house.redis.hget(f"npu:job:{job_id}", "crashes") != "0"}
    assert len(hit) == 1 + passes % 2
    house.doomed |= hit


def die_at_an_end(house: House, passes: int) -> None:
    house.worker.arm("ended")
    house.add_jobs()
    house.worker.until_dead()


def die_on_leaving(house: House, passes: int) -> None:
    for reader in house.add_jobs():
        reader.until_tokens(2)
    house.worker.arm("handed_back", passes % 2)
    house.worker.process.terminate()
    house.worker.until_dead()


def die_twice_the_second_at_the_take_over(house: House, passes: int) -> None:
    for reader in house.add_jobs():
        reader.until_tokens(2)
    house.worker.kill()
    house.open(f"reaped {passes % 2}").until_dead()


def die_twice_the_second_when_the_id_is_put_back(house: House, passes: int) -> None:
    die_at_pick(house, 0)
    house.open("put_back 0").until_dead()


@pytest.mark.parametrize(
    "die",
    [
        pytest.param(die_at_pick, id="picked"),
        pytest.param(die_at_claim, id="claimed"),
        pytest.param(die_amid_the_answer, id="published"),
        pytest.param(die_when_the_engine_has, id="crash_counted"),
        pytest.param(die_at_an_end, id="ended"),
        pytest.param(die_on_leaving, id="handed_back"),
        pytest.param(die_twice_the_second_at_the_take_over, id="reaped"),
        pytest.param(die_twice_the_second_when_the_id_is_put_back, id="put_back"),
    ],
)
def test_a_worker_may_die_at(
    die: Callable[[House, int], None], house: House, times: Times, figure: Figure, request: pytest.FixtureRequest
):
    house.open().until_ready()
    for n in range(times(1, 50)):
        die(house, DEPTHS[n % len(DEPTHS)])
        house.open().until_ready()
        for reader in house.readers:  # What still runs would be hit by the next death, too.
            reader.log(LIMIT_S)
        house.assert_settled()
    house.assert_rq_forgets()
    name = request.node.callspec.id
    figure(f"worker dies at {name}", f"{times(1, 50)} times; {len(house.readers)} jobs, each ended once and paid once")
