"""The one table from what goes wrong to HTTP, and its two renderings.

Every answer that is not a success is made here, also those of Flask itself (404, 405, 413, bad JSON, 500). The path
decides the dialect: Ollama's under `/api`, OpenAI's elsewhere. No traceback and no path of this machine goes out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from flask import Flask, Response, g, jsonify, request
from marshmallow import ValidationError
from redis.exceptions import OutOfMemoryError, RedisError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from api import headers
from api.auth import AdminOnly, NoKey
from jobs.errors import BadPrompt, CompilerBusy, JobRefused, PromptTooLong, QuotaUsedUp, TryLater, UnknownModel
from jobs.record import Job

log = logging.getLogger("npu_proxy.api")

#: Told to a client that should come back, when nothing better is known. Seconds.
RETRY_AFTER_S = 2
OLLAMA_BUSY = "server busy, please try again.  maximum pending requests exceeded"


@dataclass(frozen=True)
class Problem:
    """An error as HTTP has it. `type` and `code` are OpenAI's."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    #: Status and words of Ollama's own, where its clients look for them.
    ollama: tuple[int, str] | None = None


class ApiError(Exception):
    """Raised where the API itself finds the fault."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.problem = Problem(status, message, code=code, param=param)


class TooBusy(Exception):
    """All places for waiting requests are taken."""


class LostSight(Exception):
    """Redis has been away for long while a caller waited: the accepted job `job_id` may still run."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


class ServerStops(Exception):
    """This process is about to end. The accepted job `job_id` runs on; without one nothing was accepted."""

    def __init__(self, job_id: str = "") -> None:
        super().__init__(job_id)
        self.job_id = job_id


class JobEnded(Exception):
    """A job that a caller waited for ended without a result."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.id)
        self.job = job


#: A retry would queue the same work again; openai's clients retry 409, 429 and 5xx unless told not to.
NO_RETRY = {"x-should-retry": "false"}
RETRY = {"Retry-After": str(RETRY_AFTER_S)}

#: Job error code → status, for a job that was accepted and ended badly.
_JOB_STATUS = {
    "bad_request": 400,
    "prompt_too_long": 400,
    "queue_timeout": 503,
    "deadline": 504,
    "cancelled": 409,
}


def problem_of(error: Exception) -> Problem:
    """The table. Unknown exceptions become a 500 that tells nothing of the inside."""
    match error:
        case ApiError():
            return error.problem
        case NoKey():
            ask = {"WWW-Authenticate": "Bearer"}
            return Problem(401, str(error), code="invalid_api_key", headers=ask, ollama=(401, "unauthorized"))
        case AdminOnly():
            return Problem(403, "This needs the API key of an admin.", code="admin_only")
        case ValidationError():
            param, message = first_fault(error.messages)
            return Problem(400, f"{param}: {message}" if param else message, code="invalid_value", param=param)
        case UnknownModel():
            ollama = 404, f"model '{error.name}' not found"
            return Problem(404, str(error), code="model_not_found", param=error.param, ollama=ollama)
        case PromptTooLong():
            return Problem(400, str(error), code="context_length_exceeded", param=error.param)
        case BadPrompt():
            return Problem(400, str(error), code="invalid_value", param=error.param)
        case TryLater():
            return busy_problem(error)
        case CompilerBusy():
            return Problem(503, str(error), "server_error", "busy", headers=RETRY, ollama=(503, OLLAMA_BUSY))
        case JobRefused():
            return Problem(400, str(error), param=error.param)
        case TooBusy():
            text, ollama = "All places for waiting requests are taken.", (503, OLLAMA_BUSY)
            return Problem(503, text, "server_error", "busy", headers=RETRY, ollama=ollama)
        case OutOfMemoryError():
            log.error("Redis is full and takes no further job: %s", error)
            text = "The queue's memory is full. Try again when some jobs have ended."
            return Problem(503, text, "server_error", "out_of_memory", headers=RETRY)
        case RedisError():
            log.warning("Redis is away: %s", error)
            return Problem(503, "The queue is away for the moment.", "server_error", "unavailable", headers=RETRY)
        case LostSight():
            text = f"The queue is away for the moment; {error.job_id} may still run."
            return Problem(503, text, "server_error", "unavailable", headers=NO_RETRY)
        case ServerStops():
            if not error.job_id:
                return Problem(503, "The server stops.", "server_error", "unavailable", headers=RETRY)
            text = f"The server stops; the job runs on as {error.job_id}."
            return Problem(503, text, "server_error", "unavailable", headers=NO_RETRY)
        case JobEnded():
            return job_problem(error.job)
        case HTTPException():
            return Problem(error.code or 500, http_message(error), code=_snake(error.name))
        case _:
            log.error("unexpected error in %s %s", request.method, request.path, exc_info=error)
            return Problem(500, "The server failed. Its log says why.", "server_error", "internal_error")


def busy_problem(error: TryLater) -> Problem:
    """A full queue or a quota that is used up. What can never be granted is not worth a retry."""
    hint = {"Retry-After": str(error.retry_after_s or RETRY_AFTER_S)}
    ollama: tuple[int, str] | None = (503, OLLAMA_BUSY)
    if isinstance(error, QuotaUsedUp):
        ollama = None
        if not error.retry_after_s:
            hint = NO_RETRY
    return Problem(429, str(error), "rate_limit_error", "rate_limit_exceeded", headers=hint, ollama=ollama)


def job_problem(job: Job) -> Problem:
    """The error of a job that ended as failed, expired or cancelled."""
    code = job.error.code if job.error else job.state
    message = job.error.message if job.error else f"The job was {job.state}."
    status = _JOB_STATUS.get(code, 500)
    kind = "invalid_request_error" if status < 500 else "server_error"
    return Problem(status, message, kind, code, headers=NO_RETRY)


def http_message(error: HTTPException) -> str:
    """What Flask finds wrong, in words for a caller of an API."""
    asked = f"{request.method} {request.path[:200]}"
    match error:
        case NotFound():
            return f"There is no {asked} here."
        case MethodNotAllowed():
            others = sorted(set(error.valid_methods or ()) - {"HEAD", "OPTIONS"})
            return f"There is no {asked} here; there is {', '.join(others)}."
        case RequestEntityTooLarge():
            return f"The body is too long; at most {request.max_content_length} bytes are taken."
        case _:
            return error.description or error.name


def first_fault(messages: object, path: str = "") -> tuple[str | None, str]:
    """The first field that marshmallow complains of, as a caller writes it (`messages[0].role`), and the complaint."""
    if isinstance(messages, dict) and messages:
        key, rest = next(iter(messages.items()))
        if key == "_schema":
            return first_fault(rest, path)
        step = f"[{key}]" if isinstance(key, int) else f".{key}" if path else str(key)
        return first_fault(rest, path + step)
    if isinstance(messages, list) and messages:
        return first_fault(messages[0], path) if isinstance(messages[0], dict) else (path or None, str(messages[0]))
    return path or None, str(messages)


def is_ollama(path: str) -> bool:
    return path == "/api" or path.startswith("/api/")


def openai_body(problem: Problem) -> dict[str, object]:
    return {
        "error": {
            "message": problem.message,
            "type": problem.type,
            "param": problem.param,
            "code": problem.code,
        }
    }


def ollama_body(problem: Problem) -> dict[str, object]:
    return {"error": problem.ollama[1] if problem.ollama else problem.message}


def render(problem: Problem) -> Response:
    """The answer, in the dialect of the path that was asked."""
    status = problem.status
    if is_ollama(request.path):
        if problem.ollama:
            status = problem.ollama[0]
        response = jsonify(ollama_body(problem))
    else:
        response = jsonify(openai_body(problem))
    response.status_code = status
    response.headers.update(problem.headers)
    return response


def register(app: Flask) -> None:
    """Answer every exception of the app by the table."""

    @app.errorhandler(Exception)
    def answer(error: Exception) -> Response:
        response = render(problem_of(error))
        if isinstance(error, TryLater):
            g.admission = error.admission
        if isinstance(error, JobEnded):
            response.headers.update(headers.of_run(error.job))
        if isinstance(error, HTTPException):
            for name, value in error.get_headers():
                if name == "Allow":
                    response.headers[name] = value
        return response


def _snake(name: str) -> str:
    return name.lower().replace(" ", "_")
