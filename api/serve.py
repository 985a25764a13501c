"""The one way of every inference request, whatever its dialect: parse, validate, submit, then wait, stream or leave."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from flask import Response, g, jsonify, request
from marshmallow import ValidationError

from api import headers
from api.dialects import ollama, openai
from api.dialects.base import Body, Operation
from api.dialects.jobs import job_object
from api.errors import ApiError, JobEnded
from api.services import Services, services
from api.streaming import answer_stream
from api.waiting import ClientGone, Waiter
from jobs.record import Job
from jobs.request import EmbedRequest, GenerateRequest, Request, Terms

OPERATIONS = {operation.endpoint: operation for operation in (*openai.OPERATIONS, *ollama.OPERATIONS)}

#: The status nginx logs for a client that left; nobody receives it.
CLIENT_CLOSED = 499


def serve(operation: Operation) -> Response:
    """Answer the current request: with the result, a stream of it, or (`Prefer: respond-async`) the job."""
    body = load(operation, json_body())
    if (answer := operation.shortcut(body)) is not None:
        services().models.named(body["model"])
        return jsonify(answer)
    detached = "respond-async" in request.headers.get("Prefer", "")
    terms = Terms(user=body.get("user") or caller(), detached=detached, metadata=body.get("metadata") or {})
    job = prepare(operation, body, terms)
    if detached:
        response = accept(job)
        response.headers["Preference-Applied"] = "respond-async"
        return response
    if operation.stream is not None and body.get("stream"):
        return stream(operation, job, body)
    return wait(operation, job)


def wait(operation: Operation, job: Job) -> Response:
    """Enqueue, block until the end, answer in one piece. Raises `JobEnded` when there is no result."""
    waiter = Waiter(services(), job, cancel_on_leave=True)
    try:
        services().submitter.enqueue(job)
        ended = waiter.result()
    except ClientGone:
        return Response(status=CLIENT_CLOSED)
    finally:
        waiter.close()
    if ended.state not in ("completed", "incomplete"):
        raise JobEnded(ended)
    response = jsonify(operation.result(ended))
    response.headers.update(headers.of_run(ended))
    return response


def stream(operation: Operation, job: Job, body: Body) -> Response:
    """Enqueue and answer with a stream. What can be refused has been, or is here, before the stream opens."""
    assert operation.stream is not None
    waiter = Waiter(services(), job, cancel_on_leave=True)
    try:
        services().submitter.enqueue(job)
        started = waiter.started()
    except BaseException:
        waiter.close()
        raise
    chunks = operation.stream(job, body)
    response = Response(answer_stream(waiter, chunks, services().store), mimetype=chunks.media_type)
    response.headers.update(headers.of_start(job, started))
    return response


def accept(job: Job) -> Response:
    """Enqueue and answer 202 with the job and where to find it."""
    services().submitter.enqueue(job)
    response = jsonify(job_object(job, position=services().store.position(job)))
    response.status_code = 202
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers.update(headers.of_start(job, None))
    return response


def prepare(operation: Operation, body: Body, terms: Terms) -> Job:
    """The job of a validated body, not queued yet. Raises `JobRefused` or a validation error."""
    translated = operation.translate(body)
    check_sizes(translated, services())
    job = services().submitter.prepare(translated, terms)
    g.job_id = job.id
    return job


def check_sizes(translated: Request, at: Services) -> None:
    """The limits on numbers of things, which are settings."""
    if isinstance(translated, GenerateRequest) and len(translated.messages) > at.config.max_messages:
        raise ValidationError(f"At most {at.config.max_messages} messages.", "messages")
    if isinstance(translated, EmbedRequest) and len(translated.texts) > at.config.max_inputs:
        raise ValidationError(f"At most {at.config.max_inputs} texts in one request.", "input")


def load(operation: Operation, body: Mapping[str, Any]) -> Body:
    """A body checked by the operation's schema."""
    checked: Body = operation.schema.load(body)
    return checked


def json_body() -> Mapping[str, Any]:
    """The request's body as a JSON object, whatever its content type says. Raises `ApiError` 400."""
    raw = request.get_data(cache=False)
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ApiError(400, f"The body is not valid JSON: {reason}", "invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object.", "invalid_json")
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def caller() -> str:
    """Who asks, when the request does not say."""
    return request.remote_addr or "unknown"
