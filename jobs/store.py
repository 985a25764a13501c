"""Job records in Redis: every change of state, each one script, so that none can be half done or done twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from redis import Redis
from redis.client import Pipeline

from jobs import keys
from jobs.record import Job, JobError, Outcome, State, from_hash, is_job_id, to_hash, to_json
from scheduler import fairness, limits
from scheduler.limits import Admission, UserLimits

#: A worker that has not been heard of for so long has lost its jobs. Milliseconds.
LEASE_MS = 8_000
#: A job that was running at so many crashes is not given a further device.
MAX_CRASHES = 2

QUEUE_TIMEOUT = JobError("queue_timeout", "The job waited longer in the queue than it was allowed to.")

WORKER_LOST = JobError("worker_lost", "The worker of this job ended, and no other took the job up in time.")

#: Longer than any job may wait, run and be kept. Seconds.
LIST_TTL_S = 30 * 86_400

_SCRIPTS = Path(__file__).parent / "scripts"
_NAMES = ("submit", "pick", "claim", "publish", "finish", "cancel", "crash", "forgive", "requeue", "repop", "position")
#: The first line of a script. A Redis that is full lets the jobs it has go on and end, and takes no further one.
#: See "Script flags" in Redis' documentation of EVAL.
ALLOW_OOM = "#!lua flags=allow-oom\n"
_FLAGS = {"submit": "#!lua\n"}

NO_LIMITS = UserLimits()
#: Users looked at one by one for a queue position.
POSITION_USERS = 1000

PublishResult = Literal["ok", "cancel", "stale"]


@dataclass(frozen=True)
class Tokens:
    """A token event as it goes to `publish`; `before` many were published already."""

    before: int
    count: int
    data: str


SIGN_OF_LIFE = Tokens(0, 0, "")


def now_ms() -> int:
    return int(time.time() * 1000)


class JobStore:
    """Reads and changes jobs. Thread-safe. Every method is one or two round trips and raises redis's errors."""

    def __init__(self, redis: Redis, batch_share: float = fairness.BATCH_SHARE) -> None:
        """`batch_share` is what the batch lane gets beside waiting interactive jobs; workers should agree on it."""
        self.redis = redis
        common = fairness.script(batch_share) + limits.script() + (_SCRIPTS / "common.lua").read_text()
        self._scripts = {
            name: redis.register_script(_FLAGS.get(name, ALLOW_OOM) + common + (_SCRIPTS / f"{name}.lua").read_text())
            for name in _NAMES
        }

    def create(self, job: Job, max_queued: int = 10_000_000, user: UserLimits = NO_LIMITS) -> Admission:
        """Accept a job: record, first event, the owner's list and its place in the fair order, all or nothing. Nothing
        is written when `max_queued` jobs wait for its engine, or the `user`'s limits leave no room for it."""
        record = [text for pair in to_hash(job).items() for text in pair]
        most = [max_queued, user.max_queued, user.max_running, user.requests_per_minute, user.tokens_per_minute]
        args = [job.lane, job.user_key, job.queue_deadline_ms, job.created_ms, LIST_TTL_S, *most, job.reserved_tokens]
        at = [*script_keys(job.engine, job.id), keys.owned_jobs(job.owner)]
        return Admission(*self._scripts["submit"](keys=at, args=[job.id, keys.channel(job.id), *args, *record]))

    def pick(self, engine: str, woken: bool) -> str | None:
        """Take the next job of the fair order for a free slot and charge its prompt; its id, or None. `woken` says that
        the caller has taken a token off the order's wake list."""
        args = [now_ms(), to_json(QUEUE_TIMEOUT), int(woken), keys.job(""), keys.rq_job("")]
        picked: str | None = self._scripts["pick"](keys=script_keys(engine, ""), args=args)
        return picked

    def get(self, job_id: str) -> Job | None:
        """The job, or None: unknown, expired, or no id of ours at all."""
        record = self.redis.hgetall(keys.job(job_id)) if is_job_id(job_id) else {}
        return from_hash(record) if "id" in record else None

    def list(self, owner: str, limit: int, before: str = "") -> list[Job]:
        """An owner's jobs, newest first, those older than the job `before` if it is given."""
        listed = keys.owned_jobs(owner)
        rank = self.redis.zrevrank(listed, before) if before else None
        start = 0 if rank is None else int(rank) + 1
        found: list[Job] = []
        while len(found) < limit and (ids := self.redis.zrevrange(listed, start, start + limit - 1)):
            with self.redis.pipeline(transaction=False) as pipe:
                for job_id in ids:
                    pipe.hgetall(keys.job(job_id))
                records = dict(zip(ids, pipe.execute(), strict=True))
            expired = [job_id for job_id, record in records.items() if "id" not in record]
            if expired:
                self.redis.zrem(listed, *expired)
            found += [from_hash(record) for record in records.values() if "id" in record]
            start += len(ids) - len(expired)
        return found[:limit]

    def claim(self, engine: str, job_id: str, worker: str, device: str) -> Job | None:
        """Start an attempt of a picked job; the job as it is now, or None when there is nothing to run."""
        now = now_ms()
        args = [now, now + LEASE_MS, worker, device]
        record = self._run("claim", engine, job_id, args)
        return from_hash(dict(zip(record[::2], record[1::2], strict=True))) if record else None

    def publish(self, pipe: Pipeline, job: Job, tokens: Tokens = SIGN_OF_LIFE) -> None:
        """Add `publish` for an attempt to a pipeline; its result there is a `PublishResult`."""
        args = [job.attempt, tokens.before, tokens.count, tokens.data, now_ms() + LEASE_MS]
        self._run("publish", job.engine, job.id, args, pipe)

    def finish(
        self, pipe: Pipeline, job: Job, state: State, outcome: Outcome, error: JobError | None = None
    ) -> None:
        """Add the end of an attempt to a pipeline; 0 there says that the job was not this attempt's any more."""
        args = [job.attempt, state, now_ms(), to_json(outcome), to_json(error) if error else ""]
        self._run("finish", job.engine, job.id, args, pipe)

    def cancel(self, job: Job) -> State | None:
        """Cancel a job. A queued one is `cancelled` on return, a running one soon; a final one stays as it is."""
        result: State | None = self._run("cancel", job.engine, job.id, [now_ms(), "", ""])
        return result

    def expire_if_late(self, engine: str, job_id: str) -> State | None:
        """End a job that is still queued past its queue deadline, or that ran and is owned by no worker well past its
        run deadline. The state it is in now."""
        args = [now_ms(), "expired", to_json(QUEUE_TIMEOUT), to_json(WORKER_LOST)]
        result: State | None = self._run("cancel", engine, job_id, args)
        return result

    def hand_back(self, job: Job) -> str:
        """Give up an attempt in good order (the worker ends): to the front of the queue, to be continued."""
        return str(self._run("requeue", job.engine, job.id, [job.attempt, now_ms(), 0, MAX_CRASHES, ""]))

    def reap(self, engine: str, job_id: str, attempt: int | None = None) -> str:
        """Take a job from a worker whose lease on it has run out, or from that `attempt`, whose worker is known to be
        dead; the state it is in now, or `stale`."""
        error = JobError("worker_crashed", f"The job was running at {MAX_CRASHES} crashes and is not tried again.")
        args = ["" if attempt is None else attempt, now_ms(), 1, MAX_CRASHES, to_json(error)]
        return str(self._run("requeue", engine, job_id, args))

    def count_crash(self, job: Job, crash: str) -> int:
        """Note that the engine crashed while the attempt ran in it; how often that has happened, 0 for an old one.
        `crash` names the crash, so that it counts once."""
        return int(self._run("crash", job.engine, job.id, [job.attempt, crash]))

    def forgive_crash(self, job: Job, crash: str) -> int:
        """Take back what was counted for a crash, if it was the last; how often one has been counted for the job."""
        return int(self._run("forgive", job.engine, job.id, [job.attempt, crash]))

    def put_back(self, engine: str, job_id: str) -> bool:
        """Return an id that was picked, but whose job never began, to the front of its user's line."""
        return bool(self._run("repop", engine, job_id, []))

    def position(self, job: Job) -> int | None:
        """About its place in the queue, 1 for the next; None when it does not wait."""
        at = self._run("position", job.engine, job.id, [job.lane, job.user_key, POSITION_USERS])
        return None if at is None else int(at)

    def may_run(self, job: Job) -> bool:
        """Whether a waiting job's turn may come: its user does not have as many running as they may."""
        return self.redis.zscore(f"{keys.fair(job.engine)}:users:{job.lane}", job.user_key) is not None

    def depth(self, engine: str) -> int:
        """How many jobs wait for an engine."""
        return int(self.redis.hget(f"{keys.fair(engine)}:state", "waiting") or 0)

    def load_scripts(self) -> None:
        """Give Redis the scripts. Needed before a pipeline is executed on a server that does not have them, which then
        raises `NoScriptError`; outside pipelines redis-py does it by itself."""
        for script in self._scripts.values():
            self.redis.script_load(script.script)

    def _run(self, script: str, engine: str, job_id: str, args: Sequence[Any], pipe: Pipeline | None = None) -> Any:
        at = script_keys(engine, job_id)
        all_args = [job_id, keys.channel(job_id), *args]
        if pipe is not None:  # redis-py would ask before each pipeline whether Redis has the scripts.
            return pipe.evalsha(self._scripts[script].sha, len(at), *at, *all_args)
        return self._scripts[script](keys=at, args=all_args)


@lru_cache(maxsize=1024)
def script_keys(engine: str, job_id: str) -> tuple[str, ...]:
    """The same for all scripts, whose heads count them from 1. Kept, since each token needs them."""
    return (
        keys.job(job_id),
        keys.events(job_id),
        keys.leases(engine),
        keys.waiting(engine),
        keys.popped(engine),
        keys.queue_deadlines(engine),
        keys.rq_job(job_id),
        keys.fair(engine),
        keys.minute(""),
    )
