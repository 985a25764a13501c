"""The one way of every inference request, whatever its dialect: parse, validate, submit, then wait, stream or leave."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from flask import Response, g, jsonify, request
from gunicorn.http.errors import ParseException
from marshmallow import ValidationError
from redis.exceptions import ConnectionError, TimeoutError

from api import headers, images
from api.auth import caller
from api.dialects import ollama, openai, rerank
from api.dialects.base import Body, Operation
from api.dialects.jobs import job_object
from api.errors import ApiError, JobEnded, ServerStops
from api.ignored import ignored
from api.outlook import outlook
from api.services import services
from api.streaming import answer_stream
from api.waiting import ClientGone, Waiter
from jobs.fault_points import reach
from jobs.record import Job
from jobs.request import Terms

OPERATIONS = {each.endpoint: each for each in (*openai.OPERATIONS, *rerank.OPERATIONS, *ollama.OPERATIONS)}

TIMEOUT_HEADER = "X-Request-Timeout"
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

#: The status nginx logs for a client that left; nobody receives it.
CLIENT_CLOSED = 499


def serve(operation: Operation) -> Response:
    """Answer the current request: with the result, a stream of it, or (`Prefer: respond-async`) the job."""
    body = load(operation, json_body())
    if (answer := operation.shortcut(body)) is not None:
        services().models.named(body["model"])
        return jsonify(answer)
    detached = "respond-async" in request.headers.get("Prefer", "")
    job = prepare(operation, body, terms(body, detached=detached, metadata=body.get("metadata") or {}))
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
        enqueue(job)
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
        enqueue(job)
        started = waiter.started()
        waits = outlook(services(), job) if started is None else None
    except BaseException:
        waiter.close()
        raise
    chunks = operation.stream(job, body)
    response = Response(answer_stream(waiter, chunks, services()), mimetype=chunks.media_type)
    response.headers.update(headers.of_start(job, started) | headers.of_wait(waits))
    return response


def accept(job: Job) -> Response:
    """Enqueue and answer 202 with the job and where to find it."""
    enqueue(job)
    waits = outlook(services(), job)
    response = jsonify(job_object(job, waits=waits))
    response.status_code = 202
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers.update(headers.of_start(job, None) | headers.of_wait(waits))
    return response


def enqueue(job: Job) -> None:
    """Accept a prepared job within its caller's limits; the answer's headers tell what is left. Raises `TryLater`,
    `ServerStops`, and redis's errors: the caller will then ask again, so what may have been accepted is cancelled."""
    if services().stopping.is_set():
        raise ServerStops
    reach("prepared")
    try:
        g.admission = services().submitter.enqueue(job, caller().limits)
    except (ConnectionError, TimeoutError):
        services().unwanted.cancel_later(job)
        raise
    reach("submitted")


def prepare(operation: Operation, body: Body, terms: Terms) -> Job:
    """The job of a validated body, not queued yet. Raises `JobRefused` or a validation error."""
    job = services().submitter.prepare(images.loaded(operation.translate(body), services()), terms)
    g.job_id = job.id
    return job


def load(operation: Operation, body: Mapping[str, Any]) -> Body:
    """A body checked by the operation's schema, and by the limits on numbers of things, which are settings. Headers of
    the answer name what of it is ignored."""
    config = services().config
    check_size(body, "messages", config.max_messages)
    check_size(body, "input", config.max_inputs)
    check_size(body, "documents", config.max_inputs)
    checked: Body = operation.schema.load(body)
    g.ignored = ignored(operation.schema, body)
    return checked


def check_size(body: Mapping[str, Any], name: str, most: int) -> None:
    """Refuse a list that is too long before anything is made of its entries. Numbers are one text's token ids."""
    entries = body.get(name)
    if isinstance(entries, list) and len(entries) > most and not isinstance(entries[0], int):
        raise ValidationError({name: [f"At most {most} entries."]})


def json_body() -> Mapping[str, Any]:
    """The request's body as a JSON object, whatever its content type says. Raises `ApiError` 400."""
    try:
        raw = request.get_data(cache=False)
        if request.content_length is None:
            request.stream.read(1)  # Werkzeug cuts chunks at the limit, and says so only at the next read.
    except (OSError, ParseException):
        raise ApiError(400, "The body broke off or is not what its headers say.", "bad_request") from None
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not valid JSON: {_json_fault(error)}.", "invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object.", "invalid_json")
    return body


def _json_fault(error: Exception) -> str:
    match error:
        case NotJSON() | json.JSONDecodeError():
            return str(error)
        case UnicodeDecodeError():
            return "it is not UTF-8"
        case RecursionError():
            return "it is nested too deep"
        case _:  # The one that is left: Python's limit on the digits of a whole number.
            return "a number has too many digits"


class NotJSON(ValueError):
    """A word that Python's parser takes beyond JSON."""


def _refuse_constant(name: str) -> NoReturn:
    raise NotJSON(f"{name} is no value")


def terms(body: Body, **rest: Any) -> Terms:
    """A body's terms, on behalf of the caller."""
    who = caller()
    user = who.user or body.get("user") or request.remote_addr or "unknown"
    return Terms(user, who.owner, who.weight, who.limits, timeout_s=asked_timeout_s(), **rest)


def asked_timeout_s() -> float | None:
    """For how long the caller will wait, by `X-Request-Timeout`. Raises `ApiError` 400."""
    text = request.headers.get(TIMEOUT_HEADER)
    if text is None:
        return None
    if not _SECONDS.fullmatch(text) or float(text) == 0:
        message = f"{TIMEOUT_HEADER} must be seconds, such as 30 or 2.5."
        raise ApiError(400, message, "invalid_value", TIMEOUT_HEADER)
    return float(text)
