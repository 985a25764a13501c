"""Jobs: submit, look, follow, cancel."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request
from marshmallow import ValidationError

from api import headers
from api.auth import AdminOnly, caller, owner_of
from api.dialects.jobs import job_object
from api.errors import ApiError
from api.outlook import Outlook, outlook
from api.schemas.jobs import NewJob
from api.serve import OPERATIONS, accept, json_body, load, prepare, terms
from api.services import services
from api.streaming import event_stream
from api.waiting import Waiter
from jobs import events
from jobs.record import Job

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
    asked_terms = terms(
        body,
        lane=asked.get("lane") or "interactive",
        detached=True,
        queue_timeout_s=asked.get("queue_timeout"),
        run_timeout_s=asked.get("timeout"),
        metadata=asked.get("metadata") or {},
    )
    return accept(prepare(operation, body, asked_terms))


@blueprint.get("/v1/jobs")
def list_jobs() -> Response:
    """The caller's newest jobs, without their texts; `after` is the last id of the page before. Admins may ask for
    those of another `user`."""
    owner = caller().owner
    if name := request.args.get("user", ""):
        owner = owner_of(name)
        if not caller().may_see(owner):
            raise AdminOnly
    limit = request.args.get("limit", DEFAULT_PAGE, type=int)
    page = services().store.list(owner, min(max(1, limit), LONGEST_PAGE) + 1, request.args.get("after", ""))
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
    job = _job(job_id)
    waits = _outlook(job)
    response = jsonify(_whole(job, waits))
    response.headers.update(headers.of_wait(waits))
    return response


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
    waits = _outlook(job)
    waiter = Waiter(services(), job, cancel_on_leave=False, after=after)
    response = Response(event_stream(waiter, services(), note), mimetype="text/event-stream")
    response.headers.update(headers.of_wait(waits))
    return response


@blueprint.delete("/v1/jobs/<job_id>")
def cancel(job_id: str) -> Response:
    """Cancel it: a queued job never runs, a running one stops within a step. A finished one stays as it is."""
    job = _job(job_id)
    services().store.cancel(job)
    return jsonify(_whole(_job(job_id)))


def _job(job_id: str) -> Job:
    job = services().store.get(job_id)
    if job is None or not caller().may_see(job.owner):  # Whether another has such a job is nobody's business.
        raise ApiError(404, f"There is no job {job_id[:60]!r} (any more).", "job_not_found", "job_id")
    return job


def _outlook(job: Job) -> Outlook | None:
    return outlook(services(), job) if job.state == "queued" else None


def _whole(job: Job, waits: Outlook | None = None) -> dict[str, object]:
    store = services().store
    operation = OPERATIONS.get(job.endpoint)
    began = job.tokens > 0 or job.state == "in_progress"
    # A result holds its whole text; without one, what the log has is all there is.
    has_partial = job.engine in ("llm", "vision") and began and job.state not in ("completed", "incomplete")
    return job_object(
        job,
        result=operation.result if operation else None,
        partial=events.produced(store.redis, job.id)[0] if has_partial else None,
        waits=waits,
    )
