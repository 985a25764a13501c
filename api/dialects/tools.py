"""Tools and their calls, from a body to what chat templates know."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from marshmallow import ValidationError

from api.dialects.base import Body, Json
from api.schemas.structured import check_json
from jobs.request import Tools

NO_PARAMETERS: Json = {"type": "object", "properties": {}}
#: Of the arguments of a call in a conversation. Longer ones stay the text they are.
MAX_ARGUMENTS_BYTES = 65_536


def tools_of(body: Body) -> Tools:
    """The tools of a checked body. With `tool_choice` none the model is not told of any."""
    functions = [{**tool["function"]} for tool in body.get("tools") or ()]
    for function in functions:
        function["parameters"] = function.get("parameters") or NO_PARAMETERS
    offered = tuple({"type": "function", "function": function} for function in functions)
    names = tuple(function["name"] for function in functions)
    many = body.get("parallel_tool_calls") is not False
    match body.get("tool_choice"):
        case "none":
            return Tools()
        case "required":
            return Tools(offered, names, many)
        case {"function": {"name": name}}:
            return Tools(offered, (name,), many=False)
        case _:
            return Tools(offered)


def arguments_of(text: str) -> Any:
    """The arguments of a call, which clients send as text and templates take as an object; what is none stays text."""
    try:
        arguments = json.loads(text)
        if isinstance(arguments, dict):
            check_json(arguments, MAX_ARGUMENTS_BYTES)
            return arguments
    except (ValueError, RecursionError, ValidationError):
        pass
    return text


def with_ids(messages: Iterable[Json]) -> tuple[Json, ...]:
    """Messages whose calls and results have ids, which some templates ask for and Ollama does not have: results are
    those of the calls before them, in order."""
    found, waiting, count = [], list[str](), 0
    for message in messages:
        if calls := message.get("tool_calls"):
            ids = [f"call{n:05}" for n in range(count, count + len(calls))]
            count += len(calls)
            waiting = list(ids)
            message = {**message, "tool_calls": [{"id": i, **c} for i, c in zip(ids, calls, strict=True)]}
        elif message["role"] == "tool" and waiting:
            message = {**message, "tool_call_id": waiting.pop(0)}
        found.append(message)
    return tuple(found)
