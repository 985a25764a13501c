"""OpenAI's paths, and those that others put beside them."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api.dialects import rerank
from api.dialects.openai import OPERATIONS, model_object
from api.routes.inference import add_operations
from api.services import services

blueprint = Blueprint("openai", __name__)
add_operations(blueprint, (*OPERATIONS, *rerank.OPERATIONS))


@blueprint.get("/v1/models")
def list_models() -> Response:
    return jsonify({"object": "list", "data": [model_object(m) for m in services().models.all]})


@blueprint.get("/v1/models/<path:name>")
def retrieve_model(name: str) -> Response:
    return jsonify(model_object(services().models.named(name)))
