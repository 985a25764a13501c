"""Health, for people and for orchestrators."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify
from redis.exceptions import RedisError

from api.services import services
from jobs import reports
from jobs.reports import Report

blueprint = Blueprint("health", __name__)

#: Of several workers of one engine kind, the best decides the kind's state.
_BEST_FIRST = ("ready", "loading", "restarting", "stopping", "failed")


@blueprint.get("/health")
def health() -> Response:
    """`ok` when every engine has a worker that is ready; else `loading`, or `degraded` with what is wrong."""
    at = services()
    try:
        known = reports.read_all(at.store.redis)
        engines = {kind: engine_state(kind, model, known) for kind, model in at.config.models.items()}
        for kind, state in engines.items():
            state["waiting"] = at.store.depth(kind)
        redis = "ok"
    except RedisError:
        redis, engines = "down", {}
    status = overall(redis, [str(e["state"]) for e in engines.values()])
    response = jsonify({"status": status, "version": at.config.version, "redis": redis, "engines": engines})
    response.status_code = 200 if redis == "ok" else 503
    return response


@blueprint.get("/health/liveness")
def liveness() -> Response:
    """200 as long as this process answers."""
    return jsonify({"status": "ok"})


@blueprint.get("/health/readiness")
def readiness() -> Response:
    """200 when requests can be run: Redis answers and every engine is ready; else 503."""
    answer = health()
    if answer.get_json()["status"] != "ok":
        answer.status_code = 503
    return answer


def engine_state(kind: str, model: str, known: list[Report]) -> dict[str, Any]:
    """What `/health` says of an engine kind: its best worker's report, and how many there are."""
    mine = sorted((r for r in known if r.engine == kind), key=lambda r: _BEST_FIRST.index(r.state))
    if not mine:
        return {"state": "down", "model": model, "device": None, "workers": 0}
    best = asdict(mine[0])
    best["device"] = best["device"] or None
    del best["name"], best["engine"]
    return {**best, "workers": len(mine)}


def overall(redis: str, states: list[str]) -> str:
    """One word for all of it."""
    if redis != "ok":
        return "degraded"
    if all(state == "ready" for state in states):
        return "ok"
    return "loading" if all(state in ("ready", "loading") for state in states) else "degraded"
