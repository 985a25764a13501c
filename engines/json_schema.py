"""JSON schemas as grammars, with bounds of whole numbers that hold better than xgrammar's own.

Those are not exact: from 0 to 150 it lets 152 through. So a range of up to `MAX_SPAN` numbers is written as the list of
them, and a wider one stays as it is. A list is not always exact either, where many numbers share their first digits:
from -138 to -78 it lets -77 through, as it does with the same alternatives in EBNF.
"""

from __future__ import annotations

import json
from typing import Any

from engines.base import Grammar

MAX_SPAN = 1000

#: Where a JSON schema holds others: in an object by name, in a list, and itself.
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems", "items")
_ONE = ("items", "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "contains", "not")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def schema_grammar(schema: dict[str, Any]) -> Grammar:
    """A grammar for JSON of that schema; for any object where it is empty, as JSON mode has it."""
    schema = exact(schema) if schema else {"type": "object"}
    return Grammar("json_schema", json.dumps(schema, ensure_ascii=False, separators=(",", ":")))


def exact(schema: Any) -> Any:
    """The schema with its narrow ranges of whole numbers as `enum`. Calls itself as deep as it nests."""
    if not isinstance(schema, dict):
        return schema
    changed = dict(schema)
    for key in _BY_NAME:
        if isinstance(inner := schema.get(key), dict):
            changed[key] = {name: exact(each) for name, each in inner.items()}
    for key in _LISTS:
        if isinstance(inner := schema.get(key), list):
            changed[key] = [exact(each) for each in inner]
    for key in _ONE:
        if isinstance(inner := schema.get(key), dict):
            changed[key] = exact(inner)
    numbers = whole_numbers(schema)
    if numbers is None:
        return changed
    kept = {key: value for key, value in changed.items() if key not in (*_BOUNDS, "type", "multipleOf")}
    return {**kept, "enum": numbers}


def whole_numbers(schema: dict[str, Any]) -> list[int] | None:
    """The numbers that a schema of a narrow range allows; None for any other schema. An empty range stays as it is: who
    compiles it refuses it."""
    if schema.get("type") != "integer" or "enum" in schema or "const" in schema:
        return None
    bounds = {key: schema[key] for key in (*_BOUNDS, "multipleOf") if key in schema}
    if not all(type(value) is int for value in bounds.values()):
        return None
    lows = [bounds[k] + more for k, more in (("minimum", 0), ("exclusiveMinimum", 1)) if k in bounds]
    highs = [bounds[k] - less for k, less in (("maximum", 0), ("exclusiveMaximum", 1)) if k in bounds]
    if not lows or not highs or min(highs) - max(lows) >= MAX_SPAN:
        return None
    step = bounds.get("multipleOf", 1)
    return [n for n in range(max(lows), min(highs) + 1) if step > 0 and n % step == 0] or None
