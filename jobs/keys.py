"""Every Redis key of the project (RQ's own, under `rq:`, aside).

Ids in keys are ours (`job_…`, letters, digits and `_` only) or hashes, so no caller's text can reach another's keys.
"""

from __future__ import annotations

import hashlib


def job(job_id: str) -> str:
    """Hash: the record (`jobs.record.Job`). Made at submit, changed by the scripts alone; read by
    the API and workers. Expires
    its own `ttl_s` after the final state."""
    return f"npu:job:{job_id}"


def events(job_id: str) -> str:
    """Stream: the event log, fields `event` and `data` (JSON). Written by the scripts; read by every follower.
    Expires with the record."""
    return f"npu:job:{job_id}:events"


def channel(job_id: str) -> str:
    """Pub/sub: each log entry as `id\\nevent\\ndata`, sent by the script that appends it. Heard by the event hubs."""
    return f"npu:job:{job_id}:live"


def owned_jobs(owner: str) -> str:
    """Sorted set: an owner's job ids by creation, unix ms. Written and trimmed at submit; read by `GET /v1/jobs`;
    both take out ids whose record has expired. Expires a month after the newest."""
    return f"npu:owner:{hashlib.sha256(owner.encode()).hexdigest()[:32]}:jobs"


def leases(engine: str) -> str:
    """Sorted set: running jobs of an engine kind by the time their worker must have been heard of, unix ms.
    Written by the scripts; read by the reaper, and counted for estimates of a wait. Holds running jobs only."""
    return f"npu:leases:{engine}"


def queue_deadlines(engine: str) -> str:
    """Sorted set: waiting jobs of an engine kind by the time when they end even if no worker takes them, unix ms: the
    end of their wait, or for those that ran already, a while after their run deadline. Written at submit and by the
    scripts; read by the reapers. Holds queued jobs only."""
    return f"npu:deadlines:{engine}"


def workers() -> str:
    """Set: keys of the workers that have reported; one whose report expired is removed by who reads it."""
    return "npu:workers"


def worker(name: str) -> str:
    """String, JSON: a worker's last report (`jobs.reports.Report`). Written by it every second; expires after a
    few; read by `/health`, for headers and for estimates of a wait."""
    return f"npu:worker:{name}"


def fair(engine: str) -> str:
    """Base of the keys of an engine kind's fair order, which `scheduler/scripts/fair.lua` lists. Written and read by
    the scripts; its wake list also by slots that wait, and what waits also by `jobs/overview.py`."""
    return f"npu:fair:{engine}"


def user_key(user: str) -> str:
    """What stands for a user's name in the fair order's keys, in accounts', in sorted sets and records."""
    return hashlib.sha256(user.encode()).hexdigest()[:32]


def minute(user_key: str) -> str:
    """Hash: requests and tokens of a user's last minute by the second (`scheduler/scripts/limits.lua`), of users with a
    limit on them. Written at submit and at a job's end; expires two minutes after the latest that was accepted."""
    return f"npu:minute:{user_key}"


def waiting(engine: str) -> str:
    """List: RQ's queue of an engine kind. Ids that RQ itself puts there (retry, requeue) go into the fair order at the
    next pick."""
    return f"rq:queue:{engine}"


def rq_job(job_id: str) -> str:
    """Hash: RQ's job for one of ours, written by RQ only while it beats for a long run, and when one fails. Deleted
    after a run, and by the scripts with the final state; after a failure it expires."""
    return f"rq:job:{job_id}"


def popped(engine: str) -> str:
    """List: RQ's intermediate list, ids between pop and claim. Read by the reaper."""
    return f"rq:queue:{engine}:intermediate"


def accounts() -> str:
    """Set: the `user_key`s of all users with an account. Written with the account (`jobs.users`); read by
    `npu-proxy keys list` and by the look for any key before the API listens to others. Never expires."""
    return "npu:accounts"


def account(user_key: str) -> str:
    """Hash: a user's name and settings (`jobs.users.User`). Written by `npu-proxy keys create`, read with each key that
    is looked up. Never expires, also when the last key is revoked."""
    return f"npu:account:{user_key}"


def account_keys(user_key: str) -> str:
    """Sorted set: the ids of a user's API keys by creation, unix ms. Written by `npu-proxy keys create`, `rotate` and
    `revoke`; read by `list`. Never expires."""
    return f"npu:account:{user_key}:keys"


def api_key(key_id: str) -> str:
    """Hash: an API key's user (`user_key`), salt and digest, never its secret. Written and deleted with its id in
    `account_keys`; read at every request that brings a key. Never expires."""
    return f"npu:key:{key_id}"
