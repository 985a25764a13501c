"""What waits and what runs, at one moment: for a person who looks at the queue. Changes nothing about a job."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

from redis import Redis

from jobs import keys, reports
from jobs.record import Lane
from jobs.reports import Report, estimated_wait_s
from jobs.store import POSITION_USERS, now_ms

LANES: tuple[Lane, ...] = ("interactive", "batch")
#: Users of a lane that are shown.
MOST_USERS = 20
#: Running jobs that are looked at, for what each user has, and that are shown.
MOST_LOOKED_AT = 100
MOST_JOBS = 20
#: Waiting jobs that are shown.
NEXT_JOBS = 5

#: What is read of a record; never the task, which may be megabytes.
_FIELDS = ("user", "user_key", "lane", "weight", "tokens", "created_ms", "started_ms")


@dataclass(frozen=True)
class SeenJob:
    """A job that runs or waits."""

    id: str
    user: str
    user_key: str
    lane: Lane
    weight: float
    #: Completion tokens published so far.
    tokens: int
    #: Since its first start; for one that waits, since it was handed in.
    elapsed_s: float


@dataclass(frozen=True)
class SeenUser:
    """A user of whom jobs wait or run in a lane."""

    user: str
    lane: Lane
    weight: float
    #: Their counter in the fair order, less the least one that is shown of the lane.
    counter: float
    waiting: int
    running: int
    #: Completion tokens so far of those that run.
    tokens: int


@dataclass(frozen=True)
class Overview:
    """An engine kind's workers, users and jobs. The lists are cut; the counts are of all there are."""

    engine: str
    workers: tuple[Report, ...]
    #: Of the workers that are ready.
    slots: int
    running: int
    waiting: int
    #: Counted over `POSITION_USERS` users of each lane at most.
    waiting_by_lane: dict[Lane, int]
    #: For a user who comes now, in the interactive lane. Seconds; None when it is not known.
    newcomer_wait_s: float | None
    #: By lane, those who were served least first.
    users: tuple[SeenUser, ...]
    more_users: int
    #: The longest running first.
    running_jobs: tuple[SeenJob, ...]
    #: Which come next, roughly: the users of a lane in turn, as a queue position counts them.
    next_jobs: tuple[SeenJob, ...]


@dataclass(frozen=True)
class _Line:
    """What waits of a user in a lane."""

    lane: Lane
    user_key: str
    #: Whether the user's turn may come; not when as many of theirs run as may.
    in_turn: bool
    counter: float = 0.0
    waiting: int = 0
    head: tuple[str, ...] = ()


def read(redis: Redis, engines: Sequence[str]) -> list[Overview]:
    """How it stands with these engine kinds. Two round trips, and up to four for each kind; raises redis's errors.

    Looks at no more than a fixed number of users and jobs, however many there are. What happens between two of the
    round trips may make numbers differ by a job or so.
    """
    known = reports.read_all(redis)
    return [_engine(redis, engine, tuple(r for r in known if r.engine == engine)) for engine in engines]


def _engine(redis: Redis, engine: str, workers: tuple[Report, ...]) -> Overview:
    fair = keys.fair(engine)
    lines: list[_Line] = []
    users_of: dict[Lane, int] = {}
    with redis.pipeline(transaction=False) as pipe:
        pipe.hget(f"{fair}:state", "waiting")
        pipe.zcard(keys.leases(engine))
        pipe.zrange(keys.leases(engine), 0, MOST_LOOKED_AT - 1)
        for lane in LANES:
            pipe.zcard(f"{fair}:users:{lane}")
            pipe.zrange(f"{fair}:users:{lane}", 0, POSITION_USERS - 1, withscores=True)
        waiting, running, running_ids, *of_lanes = pipe.execute()
    for lane, count, users in zip(LANES, of_lanes[::2], of_lanes[1::2], strict=True):
        users_of[lane] = count
        lines += [_Line(lane, key, True, counter) for key, counter in users]

    now = now_ms()
    running_jobs = sorted(_jobs(redis, running_ids, now, "started_ms"), key=lambda job: -job.elapsed_s)
    in_turn = {(line.lane, line.user_key) for line in lines}
    runners = dict.fromkeys((lane, job.user_key) for lane in LANES for job in running_jobs)
    lines += [_Line(lane, key, False) for lane, key in runners if (lane, key) not in in_turn]
    waiting_by_lane, lines = _filled(redis, fair, lines, runners)

    turns = [(LANES.index(line.lane), turn, job_id) for line in lines if line.in_turn
             for turn, job_id in enumerate(line.head)]  # fmt: skip
    next_ids = [job_id for *_, job_id in sorted(turns, key=lambda turn: turn[:2])][:NEXT_JOBS]
    heads = [job_id for line in lines for job_id in line.head[:1]]
    waiting_jobs = {job.id: job for job in _jobs(redis, dict.fromkeys(next_ids + heads), now, "created_ms")}

    seen = [user for line in lines if (user := _user(line, running_jobs, waiting_jobs))]
    users, more_users = _cut(seen, sum(users_of.values()) - sum(line.in_turn for line in lines))
    return Overview(
        engine,
        workers,
        sum(report.slots for report in workers if report.state == "ready"),
        running,
        int(waiting or 0),
        waiting_by_lane,
        estimated_wait_s(workers, engine, users_of["interactive"] + 1, running),
        users,
        more_users,
        tuple(running_jobs[:MOST_JOBS]),
        tuple(waiting_jobs[job_id] for job_id in next_ids if job_id in waiting_jobs),
    )


def _jobs(redis: Redis, ids: Iterable[str], now: int, since: str) -> list[SeenJob]:
    """The jobs of these ids, but for those whose record is gone by now."""
    ids = list(ids)
    with redis.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hmget(keys.job(job_id), _FIELDS)
        records = [dict(zip(_FIELDS, values, strict=True)) for values in pipe.execute()]
    return [
        SeenJob(
            job_id,
            record["user"],
            record["user_key"],
            record["lane"],
            float(record["weight"]),
            int(record["tokens"]),
            max(0, now - int(record[since])) / 1000,
        )
        for job_id, record in zip(ids, records, strict=True)
        if record["user"] is not None
    ]


def _filled(
    redis: Redis, fair: str, lines: list[_Line], runners: Container[tuple[Lane, str]]
) -> tuple[dict[Lane, int], list[_Line]]:
    """How many jobs wait in these lines by lane; and the first `MOST_USERS` lines of each lane, and those of `runners`,
    with what waits in them."""
    chosen: list[_Line] = []
    for lane in LANES:
        mine = [line for line in lines if line.lane == lane]
        chosen += mine[:MOST_USERS]
        chosen += [line for line in mine[MOST_USERS:] if (lane, line.user_key) in runners]
    with redis.pipeline(transaction=False) as pipe:
        for line in lines:
            pipe.llen(f"{fair}:line:{line.lane}:{line.user_key}")
        for line in chosen:
            pipe.lrange(f"{fair}:line:{line.lane}:{line.user_key}", 0, NEXT_JOBS - 1)
        for line in chosen:
            pipe.get(f"{fair}:counter:{line.lane}:{line.user_key}")
        found = pipe.execute()
    lengths = dict(zip(lines, found, strict=False))
    heads, counters = found[len(lines) :][: len(chosen)], found[len(lines) + len(chosen) :]
    by_lane = {lane: sum(length for line, length in lengths.items() if line.lane == lane) for lane in LANES}
    return by_lane, [
        replace(
            line, waiting=lengths[line], head=tuple(head), counter=line.counter if line.in_turn else float(counter or 0)
        )
        for line, head, counter in zip(chosen, heads, counters, strict=True)
    ]


def _user(line: _Line, running: list[SeenJob], waiting: dict[str, SeenJob]) -> SeenUser | None:
    """Whose line it is, told by a job of theirs; None when none is there any more."""
    mine = [job for job in running if (job.lane, job.user_key) == (line.lane, line.user_key)]
    known = mine + [waiting[job_id] for job_id in line.head[:1] if job_id in waiting]
    if not known:
        return None
    tokens = sum(job.tokens for job in mine)
    return SeenUser(known[0].user, line.lane, known[0].weight, line.counter, line.waiting, len(mine), tokens)


def _cut(users: list[SeenUser], unseen: int) -> tuple[tuple[SeenUser, ...], int]:
    """Some of each lane, those first of whom jobs run, with their counters counted from the least; and how many more
    there are."""
    shown: list[SeenUser] = []
    for lane in LANES:
        mine = [user for user in users if user.lane == lane]
        chosen = sorted(sorted(mine, key=lambda user: not user.running)[:MOST_USERS], key=lambda user: user.counter)
        shown += [replace(user, counter=user.counter - chosen[0].counter) for user in chosen]
    return tuple(shown), unseen + len(users) - len(shown)
