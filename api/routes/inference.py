"""The inference endpoints of all dialects: one handler."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from flask import Blueprint

from api.dialects.base import Operation
from api.serve import serve


def add_operations(blueprint: Blueprint, operations: Iterable[Operation]) -> None:
    """Serve each operation at its endpoint."""
    for operation in operations:
        name = operation.endpoint.strip("/").replace("/", "_")
        blueprint.add_url_rule(operation.endpoint, name, partial(serve, operation), methods=["POST"])
