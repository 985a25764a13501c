"""From what a body says of its answer's form to a grammar."""

from __future__ import annotations

from api.dialects.base import Body
from jobs.request import Grammar, schema_grammar


def of_openai(body: Body) -> tuple[Grammar | None, str]:
    """The grammar of `response_format` or `structured_outputs` and the field's name; None when neither asks for one."""
    wanted = body.get("response_format") or {"type": "text"}
    match wanted["type"]:
        case "json_object":
            return schema_grammar({}), "response_format"
        case "json_schema":
            return schema_grammar(wanted["json_schema"].get("schema") or {}), "response_format"
    match body.get("structured_outputs") or {}:
        case {"json": schema}:
            return schema_grammar(schema), "structured_outputs"
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
            return schema_grammar({}), "format"
        case schema:
            return schema_grammar(schema), "format"

