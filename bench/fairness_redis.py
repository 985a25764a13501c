"""The fair order as it runs in Redis, as orders for a simulated device, beside the reference."""

from __future__ import annotations

from dataclasses import dataclass, field

from redis import Redis

from bench.fairness_simulation import Order
from jobs import keys
from jobs.record import Job, Outcome, new_id
from jobs.store import JobStore, Tokens, now_ms
from scheduler import fairness
from scheduler.fairness import LANES, FairOrder, Waiting
from scheduler.limits import UserLimits

ENGINE = "llm"
FOR_EVER_MS = 10**9

_JOIN = """
if ARGV[4] == '0' then fair.limit_running(KEYS[1], ARGV[2], tonumber(ARGV[5])) end
fair.join(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1')
"""
_RELEASE = "fair.release(KEYS[1], ARGV[1], ARGV[2])"
_LEAVE = "return fair.leave(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) and 1 or 0"
_TAKE = "return (fair.take(KEYS[1]))"
_CHARGE = "fair.charge(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]))"
_STATE = """
local found = {redis.call('HGET', KEYS[1] .. ':state', 'batch_due') or '0'}
for _, lane in ipairs({'interactive', 'batch'}) do
  found[#found + 1] = redis.call('ZRANGE', KEYS[1] .. ':users:' .. lane, 0, -1, 'WITHSCORES')
  local counters = {}
  for i, user in ipairs(ARGV) do
    counters[i] = redis.call('GET', KEYS[1] .. ':counter:' .. lane .. ':' .. user) or '0'
  end
  found[#found + 1] = counters
end
return found
"""


class LuaOrder:
    """`fair.lua` alone, which knows neither records nor events. For exact comparison with the reference."""

    def __init__(self, redis: Redis) -> None:
        library = fairness.script()
        names = {"join": _JOIN, "leave": _LEAVE, "take": _TAKE, "charge": _CHARGE, "release": _RELEASE}
        self._scripts = {name: redis.register_script(library + text) for name, text in names.items()}
        self._jobs: dict[str, Waiting] = {}

    def join(self, job: Waiting, front: bool = False) -> None:
        self._jobs[job.id] = job
        self._call("join", job.lane, job.user, job.id, int(front), job.max_running)

    def leave(self, job: Waiting) -> None:
        assert self._call("leave", job.lane, job.user, job.id) == 1

    def take(self) -> Waiting | None:
        taken = self._call("take")
        if taken is None:
            return None
        job = self._jobs[str(taken)]
        self.charge(job, fairness.PROMPT_COST * job.prompt_tokens)
        return job

    def release(self, job: Waiting) -> None:
        self._call("release", job.user, job.id)

    def charge(self, job: Waiting, cost: float) -> None:
        self._call("charge", job.lane, job.user, job.weight, cost)

    def _call(self, name: str, *args: object) -> object:
        return self._scripts[name](keys=[keys.fair(ENGINE)], args=list(args))


@dataclass
class StoreOrder:
    """The whole way of a job: `JobStore` submits, picks, claims at the first token, publishes, cancels, loses workers.
    Users must be `keys.user_key`s."""

    store: JobStore
    #: By the simulation's id: the store's id of a job that was picked and not claimed, and its attempt once it was.
    _picked: dict[str, str] = field(default_factory=dict)
    _attempts: dict[str, Job] = field(default_factory=dict)
    _jobs: dict[str, tuple[Waiting, Job]] = field(default_factory=dict)
    _records: dict[str, Job] = field(default_factory=dict)

    def join(self, job: Waiting, front: bool = False) -> None:
        if front:  # Its worker is gone, at times without a word.
            attempt = self._attempts.pop(job.id, None)
            if attempt is None:
                assert self.store.put_back(ENGINE, self._picked.pop(job.id))
                return
            if attempt.crashes == 0:
                self.store.redis.zadd(keys.leases(ENGINE), {attempt.id: 0})
                assert self.store.reap(ENGINE, attempt.id) == "queued"
            else:
                assert self.store.hand_back(attempt) == "queued"
            self._jobs[attempt.id] = (job, attempt)
            return
        record = new_record(job)
        assert self.store.create(record, user=UserLimits(max_running=job.max_running)).accepted
        self._jobs[record.id] = (job, record)
        self._records[job.id] = record

    def leave(self, job: Waiting) -> None:
        assert self.store.cancel(self._records[job.id]) == "cancelled"

    def take(self) -> Waiting | None:
        picked = self.store.pick(ENGINE, woken=False)
        if picked is None:
            return None
        job = self._jobs[picked][0]
        self._picked[job.id] = picked
        return job

    def release(self, job: Waiting) -> None:
        if job.id in self._picked:
            picked = self._picked.pop(job.id)
            assert self.store.cancel(self._jobs[picked][1]) == "cancelled"
            assert self.store.claim(ENGINE, picked, "worker", "CPU") is None
            return
        with self.store.redis.pipeline(transaction=False) as pipe:
            self.store.finish(pipe, self._attempts.pop(job.id), "completed", Outcome())
            assert pipe.execute() == [1]

    def charge(self, job: Waiting, cost: float) -> None:
        if job.id in self._picked:
            claimed = self.store.claim(ENGINE, self._picked.pop(job.id), "worker", "CPU")
            assert claimed is not None
            self._attempts[job.id] = claimed
        attempt = self._attempts[job.id]
        before = int(self.store.redis.hget(keys.job(attempt.id), "published"))
        tokens = Tokens(before, int(cost) // fairness.COMPLETION_COST, "{}")
        with self.store.redis.pipeline(transaction=False) as pipe:
            self.store.publish(pipe, attempt, tokens)
            assert pipe.execute() == ["ok"]


def new_record(job: Waiting) -> Job:
    now = now_ms()
    return Job(
        new_id("job"), ENGINE, "/test", "fake-llm", job.user, job.user, job.weight, task="{}", lane=job.lane,
        prompt_tokens=job.prompt_tokens, created_ms=now, queue_deadline_ms=now + FOR_EVER_MS,
    )  # fmt: skip


class Unequal(AssertionError):
    """Redis and the reference went different ways."""


class Both:
    """The reference, and beside it the order in Redis, held equal after everything: choices, counters, lane account."""

    def __init__(self, redis: Redis, beside: Order, users: list[str]) -> None:
        self._reference, self._beside, self._users = FairOrder(), beside, users
        self._state = redis.register_script(_STATE)
        #: How often the two were compared.
        self.compared = 0

    def join(self, job: Waiting, front: bool = False) -> None:
        self._reference.join(job, front)
        self._beside.join(job, front)
        self._compare()

    def leave(self, job: Waiting) -> None:
        self._reference.leave(job)
        self._beside.leave(job)
        self._compare()

    def take(self) -> Waiting | None:
        expected, found = self._reference.take(), self._beside.take()
        if (expected and expected.id) != (found and found.id):
            raise Unequal(f"next is {expected}, in Redis {found}")
        self._compare()
        return expected

    def release(self, job: Waiting) -> None:
        self._reference.release(job)
        self._beside.release(job)
        self._compare()

    def charge(self, job: Waiting, cost: float) -> None:
        self._reference.charge(job, cost)
        self._beside.charge(job, cost)
        self._compare()

    def _compare(self) -> None:
        due, *of_lanes = self._state(keys=[keys.fair(ENGINE)], args=self._users)
        found: list[object] = [float(due)]
        expected: list[object] = [self._reference.batch_due]
        for lane, waiting, counters in zip(LANES, of_lanes[::2], of_lanes[1::2], strict=True):
            of_lane = self._reference.counters[lane]
            found += [dict(zip(waiting[::2], map(float, waiting[1::2]), strict=True)), [float(x) for x in counters]]
            expected.append({user: of_lane[user] for user in self._reference.in_turn[lane]})
            expected.append([of_lane.get(user, 0.0) for user in self._users])
        if found != expected:
            raise Unequal(f"the reference has {expected}, Redis {found}")
        self.compared += 1
