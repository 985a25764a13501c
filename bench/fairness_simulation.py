"""A device with some slots that serves jobs token by token, in whatever order it is given; and what it served whom."""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Protocol

from scheduler.fairness import COMPLETION_COST, LANES, PROMPT_COST, FairOrder, Lane, Waiting


class Order(Protocol):
    """What chooses the next job; `scheduler.fairness.FairOrder` says what each does."""

    def join(self, job: Waiting, front: bool = False) -> None: ...
    def leave(self, job: Waiting) -> None: ...
    def take(self) -> Waiting | None: ...
    def release(self, job: Waiting) -> None: ...
    def charge(self, job: Waiting, cost: float) -> None: ...


class Fifo:
    """First come, first served: to compare with."""

    def __init__(self) -> None:
        self._line: deque[Waiting] = deque()

    def join(self, job: Waiting, front: bool = False) -> None:
        if front:
            self._line.appendleft(job)
        else:
            self._line.append(job)

    def leave(self, job: Waiting) -> None:
        self._line.remove(job)

    def take(self) -> Waiting | None:
        return self._line.popleft() if self._line else None

    def release(self, job: Waiting) -> None:
        """Does not matter here."""

    def charge(self, job: Waiting, cost: float) -> None:
        """Costs nothing."""


class RoundRobin:
    """One job of each user in turn, whatever it costs: to compare with."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Waiting]] = {}

    def join(self, job: Waiting, front: bool = False) -> None:
        line = self._lines.setdefault(job.user, deque())
        if front:
            line.appendleft(job)
        else:
            line.append(job)

    def leave(self, job: Waiting) -> None:
        self._lines[job.user].remove(job)
        if not self._lines[job.user]:
            del self._lines[job.user]

    def take(self) -> Waiting | None:
        if not self._lines:
            return None
        user = next(iter(self._lines))
        line = self._lines.pop(user)
        job = line.popleft()
        if line:
            self._lines[user] = line
        return job

    def release(self, job: Waiting) -> None:
        """Does not matter here."""

    def charge(self, job: Waiting, cost: float) -> None:
        """Costs nothing."""


ORDERS: Mapping[str, Callable[[], Order]] = {"fair": FairOrder, "FIFO": Fifo, "round robin": RoundRobin}


@dataclass
class Running:
    job: Waiting
    left: int


@dataclass
class Device:
    """`step` fills the free slots and serves each running job one more token; slots are interleaved."""

    order: Order
    slots: int = 1
    #: Called after everything that happens.
    observe: Callable[[], None] = lambda: None
    running: list[Running] = field(default_factory=list)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    #: Cost by weight of what each user was served in each lane.
    served: dict[tuple[Lane, str], float] = field(default_factory=lambda: defaultdict(float))
    #: Cost of the dearest job by weight.
    dearest: float = 0.0
    #: The jobs in the order in which they were taken.
    taken: list[Waiting] = field(default_factory=list)
    _left: dict[str, int] = field(default_factory=dict)
    _lines: Counter[tuple[Lane, str]] = field(default_factory=Counter)
    _most: dict[str, int] = field(default_factory=dict)
    _ids: int = 0

    def submit(
        self, user: str, prompt: int, completion: int, weight: float = 1.0, lane: Lane = "interactive", most: int = 0
    ) -> Waiting:
        """`most` is how many jobs the user may have running at a time from now on, 0 for any number."""
        self._ids += 1
        job = Waiting(f"{self._ids}", user, weight, lane, prompt, most)
        self._most[user] = most
        self._left[job.id] = completion
        self.dearest = max(self.dearest, (PROMPT_COST * prompt + COMPLETION_COST * completion) / weight)
        self._join(job, front=False)
        return job

    def cancel(self, job: Waiting) -> None:
        """Of a waiting job."""
        self.order.leave(job)
        self._forget(job)
        self.observe()

    def crash(self, at: int) -> None:
        """A running job loses its worker, and is continued from the front of its user's line."""
        gone = self.running.pop(at)
        self._left[gone.job.id] = gone.left
        self._join(replace(gone.job, prompt_tokens=0), front=True)

    def stop(self, at: int) -> None:
        """A running job is cancelled."""
        self.order.release(self.running.pop(at).job)
        self.observe()

    def waits(self, user: str, lane: Lane = "interactive") -> int:
        """How many of a user's jobs wait in a lane."""
        return self._lines[lane, user]

    def may_run(self, user: str) -> bool:
        """Whether the user's limit leaves room for a further job."""
        most = self._most.get(user, 0)
        return not most or sum(run.job.user == user for run in self.running) < most

    def fill(self) -> None:
        """Give each free slot a job."""
        while len(self.running) < self.slots and (job := self.order.take()) is not None:
            assert self.may_run(job.user), "a user runs more jobs than they may"
            self._forget(self.waiting[job.id])
            self.taken.append(job)
            self.running.append(Running(job, self._left[job.id]))
            self._serve(job, PROMPT_COST * job.prompt_tokens)

    def step(self, tokens: int = 1) -> None:
        self.fill()
        idle = len(self.running) < self.slots
        assert not (idle and any(self.may_run(job.user) for job in self.waiting.values())), "a slot is idle"
        for run in list(self.running):
            count = min(tokens, run.left)
            if count:
                run.left -= count
                self.order.charge(run.job, COMPLETION_COST * count)
                self._serve(run.job, COMPLETION_COST * count)
            if run.left == 0:
                self.running.remove(run)
                self.order.release(run.job)

    def total(self, user: str) -> float:
        return sum(self.served[lane, user] for lane in LANES)

    def _join(self, job: Waiting, front: bool) -> None:
        self.order.join(job, front)
        self.waiting[job.id] = job
        self._lines[job.lane, job.user] += 1
        self.observe()

    def _forget(self, job: Waiting) -> None:
        del self.waiting[job.id]
        self._lines[job.lane, job.user] -= 1

    def _serve(self, job: Waiting, cost: float) -> None:
        self.served[job.lane, job.user] += cost / job.weight
        self.observe()


class BoundWatch:
    """Over each interval in which two users both have jobs in a lane that wait and may run: by how much what they are
    served differs, at most."""

    def __init__(self, device: Device, users: Sequence[str]) -> None:
        self._device, self._pairs = device, list(combinations(users, 2))
        self._ranges: dict[tuple[Lane, str, str], tuple[float, float]] = {}
        self.worst = 0.0
        device.observe = self._look

    def _look(self) -> None:
        served = self._device.served
        for lane in LANES:
            for one, other in self._pairs:
                pair = (lane, one, other)
                if not (self._turn_may_come(one, lane) and self._turn_may_come(other, lane)):
                    self._ranges.pop(pair, None)
                    continue
                ahead = served[lane, one] - served[lane, other]
                least, most = self._ranges.get(pair, (ahead, ahead))
                self._ranges[pair] = (min(least, ahead), max(most, ahead))
                self.worst = max(self.worst, max(most, ahead) - min(least, ahead))

    def _turn_may_come(self, user: str, lane: Lane) -> bool:
        return self._device.waits(user, lane) > 0 and self._device.may_run(user)

    @property
    def of_bound(self) -> float:
        """As a part of the bound, 2 · k · c_max."""
        return self.worst / (2 * self._device.slots * self._device.dearest) if self._device.dearest else 0.0


def random_schedule(
    rnd: random.Random, device: Device, steps: int, users: Sequence[str] = "abcde", limits: bool = True
) -> None:
    """Arrivals in bursts, in both lanes and of several lengths; users that may run only so many jobs at a time, go idle
    and return; jobs that are cancelled while they wait and while they run; crashes in mid-run and before the start."""
    weights = {user: rnd.choice([0.5, 1.0, 2.0, 3.0, 4.0]) for user in users}
    longest = {user: rnd.choice([3, 10, 40]) for user in users}
    batch = rnd.choice([0.0, 0.2, 0.5])
    eager = rnd.choice([0.1, 0.3, 0.9])
    most = {user: rnd.choice([0, 0, 1, 2]) for user in users}
    active = {user: rnd.random() < 0.6 for user in users}
    for _ in range(steps):
        for user in users:
            if rnd.random() < 0.02:
                active[user] = not active[user]
            if active[user] and rnd.random() < eager and len(device.waiting) < 40:
                lane: Lane = "batch" if rnd.random() < batch else "interactive"
                prompt, completion = rnd.randint(0, longest[user]), rnd.randint(1, longest[user])
                device.submit(user, prompt, completion, weights[user], lane, most[user] if limits else 0)
        if device.waiting and rnd.random() < 0.05:
            device.cancel(rnd.choice(list(device.waiting.values())))
        if rnd.random() < 0.2:
            device.fill()
        if device.running and rnd.random() < 0.05:
            device.crash(rnd.choice([-1, rnd.randrange(len(device.running))]))
        if device.running and rnd.random() < 0.02:
            device.stop(rnd.randrange(len(device.running)))
        if rnd.random() < 0.01:
            user = rnd.choice(list(users))
            most[user] = rnd.choice([0, 1, 2])
        device.step()


# What the figures are of. Each takes an order and says how it does.


def bound_used(rnd: random.Random, order: Order, steps: int) -> float:
    """The worst difference of service in a random schedule, as a part of the bound; at most 1."""
    device = Device(order, slots=rnd.choice([1, 2, 3, 4, 8]))
    watch = BoundWatch(device, "abcde")
    random_schedule(rnd, device, steps, limits=isinstance(order, FairOrder))  # The others know of none.
    return watch.of_bound


Lengths = Callable[[], tuple[int, int]]


def backlogged(
    device: Device, users: Mapping[str, Lengths], cost: float, weights: Mapping[str, float] | None = None,
    lane: Lane = "interactive",
) -> dict[str, float]:
    """Keep jobs of each user waiting until so much was served; what each was served of it, not by weight."""
    weights = weights or {}
    before = {user: device.total(user) for user in users}
    gained: dict[str, float] = {}
    while sum(gained.values()) < cost:
        for user, lengths in users.items():
            while device.waits(user, lane) <= device.slots:  # Else one who takes all slots at once leaves.
                device.submit(user, *lengths(), weights.get(user, 1.0), lane)
        device.step(4)
        gained = {user: (device.total(user) - before[user]) * weights.get(user, 1.0) for user in users}
    return gained


def even(rnd: random.Random, least: int, most: int) -> Lengths:
    """Prompts and completions of so many tokens."""
    return lambda: (rnd.randint(least, most), rnd.randint(least, most))


def weight_error(order: Order, cost: float, slots: int = 2) -> float:
    """Users of weight 1, 2 and 4, all backlogged: how far a share is off at most, as a part of it."""
    rnd, weights = random.Random(1), {"a": 1.0, "b": 2.0, "c": 4.0}
    got = backlogged(Device(order, slots), {user: even(rnd, 5, 60) for user in weights}, cost, weights)
    whole = sum(got.values())
    return max(abs(got[user] / whole / (weight / 7) - 1) for user, weight in weights.items())


def jain(order: Order, cost: float, slots: int = 2) -> float:
    """Jain's index over eight users whose jobs are of very different lengths: 1 is even, 1/8 is one has it all."""
    rnd = random.Random(2)
    lengths = {f"u{i}": even(rnd, 2 ** i, 2 ** (i + 1)) for i in range(8)}
    got = backlogged(Device(order, slots), lengths, cost).values()
    return sum(got) ** 2 / (len(got) * sum(x * x for x in got))


def share_after_idle(order: Order, cost: float, batch_waits: bool = False, slots: int = 1) -> float:
    """A user comes back from idle to find one other that has been served long: what part they get from then on."""
    rnd, device = random.Random(3), Device(order, slots)
    users = {"busy": even(rnd, 5, 60), "idle": even(rnd, 5, 60)}
    backlogged(device, users, cost / 4)
    if batch_waits:
        for _ in range(int(cost / 100)):
            device.submit("overnight", 30, 30, lane="batch")
    for job in [job for job in device.waiting.values() if job.user == "idle"]:
        device.cancel(job)
    for _ in range(int(cost / 60)):
        device.submit("busy", *users["busy"]())
    backlogged(device, {"busy": users["busy"]}, cost)
    got = backlogged(device, users, cost)
    return got["idle"] / sum(got.values())


def split_gain(order: Order, cost: float, many_at_once: bool, slots: int = 2) -> float:
    """Two users want the same; one sends it as jobs a twentieth as long. What part more than half that one gets:
    0 when it does not matter. With `many_at_once`, they also have twenty times as many waiting."""
    device = Device(order, slots)
    for _ in range(int(cost / 30) if many_at_once else 0):
        device.submit("split", 10, 10)
    rnd = random.Random(4)
    got = backlogged(device, {"whole": even(rnd, 150, 250), "split": even(rnd, 7, 13)}, cost)
    return got["split"] / sum(got.values()) / 0.5 - 1


def batch_part(order: Order, cost: float, light_first: bool = False, slots: int = 1) -> float:
    """The batch lane's part while the interactive lane is backlogged. With `light_first`, after a long time in which
    it was not, and single interactive jobs came while batch jobs ran."""
    rnd, device = random.Random(5), Device(order, slots)
    lengths = even(rnd, 20, 40)

    def batch_waits() -> None:
        while device.waits("nightly", "batch") < 2:
            device.submit("nightly", *lengths(), lane="batch")

    for _ in range(int(cost / 200) if light_first else 0):
        batch_waits()
        device.step()
        if not device.waits("light"):
            device.submit("light", 1, 1)
        for _ in range(60):
            batch_waits()
            device.step()
    before, users, interactive = device.total("nightly"), ("ann", "bob"), 0.0
    start = sum(device.total(user) for user in users)
    while interactive < cost:
        batch_waits()
        for user in users:
            while device.waits(user) < 2:
                device.submit(user, *lengths())
        device.step(4)
        interactive = sum(device.total(user) for user in users) - start
    batch = device.total("nightly") - before
    return batch / (batch + interactive)


def jobs_before_a_light_user(order: Order, jobs: int = 1000, light: int = 9) -> int:
    """One user sends so many jobs at once; nine others one now and then. The most jobs, beside the one that runs, that
    any of theirs saw go first; each other user who is active may have one."""
    rnd, device, worst = random.Random(6), Device(order), 0
    for _ in range(jobs):
        device.submit("flood", 20, 20)
    came: dict[str, int] = {}
    due = {f"light{i}": rnd.randint(0, 600) for i in range(light)}
    now = 0
    while any(job.user == "flood" for job in device.waiting.values()):
        for user in due:
            if due[user] == now:
                came[device.submit(user, 20, 20).id] = len(device.taken)
                due[user] += rnd.randint(25, 60) * 20
        seen = len(device.taken)
        device.step()
        for index, job in enumerate(device.taken[seen:], seen):
            if job.id in came:
                worst = max(worst, index - came.pop(job.id))
        now += 1
    return max([worst, *(len(device.taken) - before for before in came.values())])
