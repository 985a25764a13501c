"""Our own objects: jobs and their events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from api.outlook import Outlook
from jobs.events import Event
from jobs.record import Job

Json = dict[str, Any]


def job_object(
    job: Job,
    *,
    result: Callable[[Job], Json] | None = None,
    partial: str | None = None,
    waits: Outlook | None = None,
) -> Json:
    """A job for callers; times in unix seconds. `result` writes what the endpoint would have answered;
    `waits` is for one that waits."""
    has_result = job.state in ("completed", "incomplete") and job.outcome is not None
    incomplete = {"reason": job.error.code} if job.state == "incomplete" and job.error else None
    failed = {"code": job.error.code, "message": job.error.message} if job.error and not incomplete else None
    return {
        "id": job.id,
        "object": "job",
        "status": job.state,
        "endpoint": job.endpoint,
        "model": job.model,
        "lane": job.lane,
        "created_at": _seconds(job.created_ms),
        "started_at": _seconds(job.started_ms),
        "ended_at": _seconds(job.ended_ms),
        "expires_at": _seconds(job.queue_deadline_ms) if job.state == "queued" else None,
        "queue_position": waits.position if waits else None,
        "estimated_wait_s": waits.wait_s if waits else None,
        "attempts": job.attempt,
        "device": job.device or None,
        "partial": {"text": partial} if partial is not None else None,
        "result": result(job) if result and has_result else None,
        "error": failed,
        "incomplete_details": incomplete,
        "usage": _usage(job),
        "metadata": job.metadata,
    }


def _usage(job: Job) -> Json:
    done = job.outcome.usage.completion_tokens if job.outcome else job.tokens
    return {
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": done,
        "total_tokens": job.prompt_tokens + done,
    }


def _seconds(unix_ms: int) -> int | None:
    return unix_ms // 1000 or None


def sse(event: Event) -> str:
    """An event of the log; its id is where a reader that reconnects goes on (`Last-Event-ID`)."""
    return f"id: {event.id}\nevent: {event.name}\ndata: {event.data}\n\n"
