"""From what a body says of its answer's form to a grammar."""

from __future__ import annotations

import json
from typing import Any

from api.dialects.base import Body
from api.schemas.bounds import exact
from jobs.request import Grammar

ANY_OBJECT = Grammar("json_schema", '{"type":"object"}')


def of_openai(body: Body) -> tuple[Grammar | None, str]:
    """The grammar of `response_format` or `structured_outputs` and the field's name; None when neither asks for one."""
    wanted = body.get("response_format") or {"type": "text"}
    match wanted["type"]:
        case "json_object":
            return ANY_OBJECT, "response_format"
        case "json_schema":
            return of_schema(wanted["json_schema"].get("schema")), "response_format"
    match body.get("structured_outputs") or {}:
        case {"json": schema}:
            return of_schema(schema), "structured_outputs"
        case {"regex": pattern}:
            return Grammar("regex", pattern), "structured_outputs"
        case {"grammar": text}:
            return Grammar("ebnf", text), "structured_outputs"
    return None, ""


def of_ollama(body: Body) -> tuple[Grammar | None, str]:
    """The grammar of `format`, and its name; None when none is asked for."""
    match body.get("format") or "":
        case "":
            return None, ""
        case "json":
            return ANY_OBJECT, "format"
        case schema:
            return of_schema(schema), "format"


def of_schema(schema: dict[str, Any] | None) -> Grammar:
    """An absent or empty schema asks for any object, as JSON mode does."""
    if not schema:
        return ANY_OBJECT
    return Grammar("json_schema", json.dumps(exact(schema), ensure_ascii=False, separators=(",", ":")))
