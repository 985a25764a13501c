"""What an answer must be, as a request says it: JSON schemas, regular expressions and EBNF grammars, within limits.

The limits are checked before anything is made of them: what nests deep crashes the libraries that read it. Whether one
compiles, and soon enough, is found out later, by `engines.grammars`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from api.schemas.fields import Flag, Object, Text

MAX_SCHEMA_BYTES = 65_536
#: Objects and lists within one another; a property of an object of a schema is two deeper than that object.
MAX_DEPTH = 64
MAX_PROPERTIES = 1000
#: The values of all `enum`s together.
MAX_ENUM_VALUES = 1000
MAX_PATTERN_CHARS = 1024
MAX_GRAMMAR_CHARS = 16_384
#: Brackets within one another, of a pattern or a grammar.
MAX_BRACKETS = 64

_BRACKET = re.compile(r"\\.|[(\[{]|[)\]}]", re.DOTALL)


class Schema(fields.Field[dict[str, Any]]):
    """A JSON schema within the limits."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError("Not a JSON schema, which is an object.")
        check_json(value, MAX_SCHEMA_BYTES)
        check_counts(value)
        return value


class Pattern(Text):
    """A regular expression within the limits."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        check_text(text, MAX_PATTERN_CHARS)
        return text


class EBNF(Text):
    """A grammar within the limits."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        check_text(text, MAX_GRAMMAR_CHARS)
        return text


class NamedSchema(Object):
    """OpenAI's wrapping. Strict or not, the answer follows the schema."""

    name = Text(required=True, validate=validate.Regexp(r"[A-Za-z0-9_-]{1,64}\Z"))
    description = Text()
    schema = Schema()
    strict = Flag()


class ResponseFormat(Object):
    type = Text(required=True, validate=validate.OneOf(["text", "json_object", "json_schema"]))
    json_schema = fields.Nested(NamedSchema)

    @validates_schema
    def check_schema(self, data: Any, **kwargs: Any) -> None:
        if data["type"] == "json_schema" and not data.get("json_schema"):
            raise ValidationError("It is missing.", "json_schema")


class StructuredOutputs(Object):
    """vLLM's: one of these."""

    json = Schema()
    regex = Pattern()
    grammar = EBNF()

    @validates_schema
    def check_one(self, data: Any, **kwargs: Any) -> None:
        if len(data) != 1:
            raise ValidationError("One of json, regex and grammar is needed, and only one.")


class Format(fields.Field[dict[str, Any] | str]):
    """Ollama's `format`: "json", a schema, or nothing."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any] | str:
        if value in ("", "json"):
            return str(value)
        if not isinstance(value, dict):
            raise ValidationError('Not "json" and not a JSON schema.')
        return Schema()._deserialize(value, attr, data)


def check_json(value: Any, most_bytes: int) -> None:
    """Refuse an object or list that is too deep or too long, or holds half a surrogate pair."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValidationError(f"Nested too deep; {MAX_DEPTH} levels are the most.")
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
    try:
        size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    except UnicodeEncodeError:
        raise ValidationError("Not valid Unicode: it holds half a surrogate pair.") from None
    if size > most_bytes:
        raise ValidationError(f"Too long; {most_bytes} bytes are the most.")


def check_counts(schema: Any) -> None:
    """Refuse a schema of too many properties or values, or with too long a pattern, wherever in it they are."""
    properties = values = 0
    left = [schema]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            properties += _size(each.get("properties"), dict)
            values += _size(each.get("enum"), list)
            for pattern in [each.get("pattern"), *_keys(each.get("patternProperties"))]:
                if isinstance(pattern, str):
                    check_text(pattern, MAX_PATTERN_CHARS, "A pattern is ")
            left += each.values()
        elif isinstance(each, list):
            left += each
    if properties > MAX_PROPERTIES:
        raise ValidationError(f"Too many properties; {MAX_PROPERTIES} are the most.")
    if values > MAX_ENUM_VALUES:
        raise ValidationError(f"Too many values in enum; {MAX_ENUM_VALUES} are the most.")


def check_text(text: str, most_chars: int, what: str = "") -> None:
    """Refuse a pattern or grammar that is empty, too long, or whose brackets nest too deep."""
    if not text.strip() or "\0" in text:
        raise ValidationError(f"{what}Empty, or with a null character.".capitalize())
    if len(text) > most_chars:
        raise ValidationError(f"{what}too long; {most_chars} characters are the most.".capitalize())
    depth = 0
    for found in _BRACKET.findall(text):
        depth += found in "([{"
        depth -= found in ")]}" and depth > 0
        if depth > MAX_BRACKETS:
            message = f"{what}nested too deep; {MAX_BRACKETS} brackets in one another are the most."
            raise ValidationError(message.capitalize())


def _size(value: Any, kind: type[dict[str, Any]] | type[list[Any]]) -> int:
    return len(value) if isinstance(value, kind) else 0


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else []
