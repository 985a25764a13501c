"""Response headers that tell what ran, where, and how long it took."""

from __future__ import annotations

import re

from flask import Flask, Response, g, request

from api.auth import caller
from api.outlook import Outlook
from jobs.events import Event, order
from jobs.record import Job, new_id
from scheduler.limits import Admission, UserLimits

REQUEST_ID = "X-Request-Id"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def of_run(job: Job) -> dict[str, str]:
    """For a job that has ended; times in ms. One that never ran has none."""
    known = of_start(job, None)
    if job.started_ms:
        known["X-NPU-Proxy-Device"] = job.device
        known["X-NPU-Proxy-Queue-Ms"] = str(max(0, job.started_ms - job.created_ms))
        known["X-NPU-Proxy-Run-Ms"] = str(max(0, job.ended_ms - job.started_ms))
    return known


def of_start(job: Job, started: Event | None) -> dict[str, str]:
    """For a stream, at its opening: device and queue time (ms) when the job has been `started` by then."""
    known = {
        "X-NPU-Proxy-Job": job.id,
        "X-NPU-Proxy-Model": job.model,
        "X-NPU-Proxy-Token-Count": str(job.prompt_tokens),
    }
    if started is not None:
        known["X-NPU-Proxy-Device"] = str(started.json()["device"])
        known["X-NPU-Proxy-Queue-Ms"] = str(max(0, order(started.id)[0] - job.created_ms))
    return known


def of_wait(waits: Outlook | None) -> dict[str, str]:
    """For a job that waits: its position, and the estimate if there is one, in seconds. None for one that does not."""
    if waits is None:
        return {}
    known = {"X-NPU-Proxy-Queue-Position": str(waits.position)}
    if waits.wait_s is not None:
        known["X-NPU-Proxy-Estimated-Wait-S"] = str(waits.wait_s)
    return known


def of_quota(admission: Admission, limits: UserLimits) -> dict[str, str]:
    """What is left of the caller's minute, by OpenAI's names; nothing of what has no limit."""
    known = {}
    if limits.requests_per_minute and admission.requests_left is not None:
        known["x-ratelimit-limit-requests"] = str(limits.requests_per_minute)
        known["x-ratelimit-remaining-requests"] = str(max(0, admission.requests_left))
        known["x-ratelimit-reset-requests"] = _duration(admission.requests_reset_s)
    if limits.tokens_per_minute and admission.tokens_left is not None:
        known["x-ratelimit-limit-tokens"] = str(limits.tokens_per_minute)
        known["x-ratelimit-remaining-tokens"] = str(max(0, admission.tokens_left))
        known["x-ratelimit-reset-tokens"] = _duration(admission.tokens_reset_s)
    return known


def _duration(seconds: int) -> str:
    """As OpenAI writes it: 1s, 6m0s."""
    return f"{seconds // 60}m{seconds % 60}s" if seconds >= 60 else f"{seconds}s"


def register(app: Flask) -> None:
    """Give every request an id, the caller's own if it has a sane one, and every answer that id, and with what has been
    submitted what is left of the caller's quotas."""

    @app.before_request
    def name_request() -> None:
        asked = request.headers.get(REQUEST_ID, "")
        g.request_id = asked if _SANE_ID.fullmatch(asked) else new_id("req")

    @app.after_request
    def label(response: Response) -> Response:
        response.headers[REQUEST_ID] = g.get("request_id", "")
        if "admission" in g:
            response.headers.update(of_quota(g.admission, caller().limits))
        if names := g.get("ignored"):
            response.headers["X-NPU-Proxy-Ignored"] = ", ".join(names)
        response.headers["X-Content-Type-Options"] = "nosniff"
        if response.is_streamed:
            # Proxies (nginx) would hold a stream back until their buffer is full.
            response.headers["X-Accel-Buffering"] = "no"
            response.headers["Cache-Control"] = "no-cache"
        return response
