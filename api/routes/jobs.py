"""Jobs: submit, look, follow, cancel."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request
from marshmallow import ValidationError

from api.dialects.jobs import job_object
from api.errors import ApiError
from api.schemas.jobs import NewJob
from api.serve import OPERATIONS, accept, caller, json_body, load, prepare
from api.services import services
from api.streaming import event_stream
from api.waiting import Waiter
from jobs import events
from jobs.record import Job
from jobs.request import Terms

blueprint = Blueprint("jobs", __name__)

DEFAULT_PAGE = 20
LONGEST_PAGE = 100
_NEW_JOB = NewJob()


@blueprint.post("/v1/jobs")
def submit() -> Response:
    """Queue an inference request as a job; 202 and where to find it."""
    asked = _NEW_JOB.load(json_body())
    operation = OPERATIONS.get(asked["endpoint"])
    if operation is None:
        raise ValidationError({"endpoint": [f"Not an inference endpoint; there are {', '.join(OPERATIONS)}."]})
    try:
        body = load(operation, asked["body"])
    except ValidationError as error:
        raise ValidationError({"body": error.messages}) from None
    if operation.shortcut(body) is not None:
        raise ValidationError({"body": ["There is nothing to run: the prompt is empty."]})
    terms = Terms(
        user=body.get("user") or caller(),
        lane=asked.get("lane") or "interactive",
        detached=True,
        queue_timeout_s=asked.get("queue_timeout"),
        run_timeout_s=asked.get("timeout"),
        metadata=asked.get("metadata") or {},
    )
    return accept(prepare(operation, body, terms))


@blueprint.get("/v1/jobs")
def list_jobs() -> Response:
    """The newest jobs, without their texts; `after` is the last id of the page before."""
    limit = request.args.get("limit", DEFAULT_PAGE, type=int)
    page = services().store.list(Terms("").owner, min(max(1, limit), LONGEST_PAGE) + 1, request.args.get("after", ""))
    shown = page[: min(max(1, limit), LONGEST_PAGE)]
    return jsonify(
        {
            "object": "list",
            "data": [job_object(job) for job in shown],
            "first_id": shown[0].id if shown else None,
            "last_id": shown[-1].id if shown else None,
            "has_more": len(page) > len(shown),
        }
    )


@blueprint.get("/v1/jobs/<job_id>")
def show(job_id: str) -> Response:
    """State, queue position, times; the text so far while it runs, and the result when there is one."""
    return jsonify(_whole(_job(job_id)))


@blueprint.get("/v1/jobs/<job_id>/events")
def follow(job_id: str) -> Response:
    """The job's events from the first, or behind `Last-Event-ID`, as they come. Leaving cancels nothing."""
    job = _job(job_id)
    last = request.headers.get("Last-Event-ID", "")
    known = events.find(services().store.redis, job.id, last) if events.is_event_id(last) else None
    if known is not None and known.name == "done":
        return Response(status=204)  # Nothing follows; browsers' EventSource then stops asking again.
    after, note = (last, "") if known else (events.START, "")
    if last and not known:
        note = "Last-Event-ID is not one of this job's, starting at the oldest event"
    waiter = Waiter(services(), job, cancel_on_leave=False, after=after)
    return Response(event_stream(waiter, services().store, note), mimetype="text/event-stream")


@blueprint.delete("/v1/jobs/<job_id>")
def cancel(job_id: str) -> Response:
    """Cancel it: a queued job never runs, a running one stops within a step. A finished one stays as it is."""
    job = _job(job_id)
    services().store.cancel(job)
    return jsonify(_whole(_job(job_id)))


def _job(job_id: str) -> Job:
    job = services().store.get(job_id)
    if job is None:
        raise ApiError(404, f"There is no job {job_id[:60]!r} (any more).", "job_not_found", "job_id")
    return job


def _whole(job: Job) -> dict[str, object]:
    store = services().store
    operation = OPERATIONS.get(job.endpoint)
    began = job.tokens > 0 or job.state == "in_progress"
    # A result holds its whole text; without one, what the log has is all there is.
    has_partial = job.engine == "llm" and began and job.state not in ("completed", "incomplete")
    return job_object(
        job,
        result=operation.result if operation else None,
        partial=events.produced(store.redis, job.id)[0] if has_partial else None,
        position=store.position(job) if job.state == "queued" else None,
    )
