"""Ollama's paths."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api.dialects.ollama import OPERATIONS, model_entry
from api.routes.inference import add_operations
from api.services import services

blueprint = Blueprint("ollama", __name__)
add_operations(blueprint, OPERATIONS)

#: Clients ask for it to know what they may send; the version of Ollama's API that is spoken here.
OLLAMA_VERSION = "0.12.0"


@blueprint.get("/")
def is_running() -> Response:
    """Clients look for these very words; Flask answers HEAD by it, too."""
    return Response("Ollama is running", mimetype="text/plain")


@blueprint.get("/api/tags")
def tags() -> Response:
    return jsonify({"models": [model_entry(m) for m in services().models.all]})


@blueprint.get("/api/version")
def version() -> Response:
    return jsonify({"version": OLLAMA_VERSION})
