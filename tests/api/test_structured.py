"""Forms of answers: what goes on to be compiled, and what is refused for its size alone."""

import pytest
from marshmallow import ValidationError

from api.dialects import structured
from api.errors import first_fault
from api.schemas import ollama, openai
from api.schemas.structured import (
    MAX_BRACKETS,
    MAX_DEPTH,
    MAX_ENUM_VALUES,
    MAX_GRAMMAR_CHARS,
    MAX_PATTERN_CHARS,
    MAX_PROPERTIES,
    MAX_SCHEMA_BYTES,
    Schema,
)
from jobs.request import Grammar

OBJECT = {"type": "object", "properties": {"ä": {"type": "string"}}}
AS_TEXT = Grammar("json_schema", '{"type":"object","properties":{"ä":{"type":"string"}}}')
ANY_OBJECT = Grammar("json_schema", '{"type":"object"}')


def of_openai(**fields):
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return structured.of_openai(openai.ChatCompletion().load(body))


def named(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, **more}}


def nested(depth):
    schema: object = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (None, "")),
        ({"response_format": {"type": "text"}}, (None, "")),
        ({"response_format": {"type": "json_object"}}, (ANY_OBJECT, "response_format")),
        ({"response_format": named(OBJECT, strict=True)}, (AS_TEXT, "response_format")),
        ({"response_format": named(OBJECT, strict=False)}, (AS_TEXT, "response_format")),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, (ANY_OBJECT, "response_format")),
        ({"structured_outputs": {"json": OBJECT}}, (AS_TEXT, "structured_outputs")),
        ({"structured_outputs": {"regex": "a+"}}, (Grammar("regex", "a+"), "structured_outputs")),
        ({"structured_outputs": {"grammar": 'root ::= "a"'}}, (Grammar("ebnf", 'root ::= "a"'), "structured_outputs")),
    ],
    ids=range(9),
)
def test_openais_ways_to_ask_for_a_form(fields, expected):
    assert of_openai(**fields) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("", (None, "")), (None, (None, "")), ("json", (ANY_OBJECT, "format")), (OBJECT, (AS_TEXT, "format"))],
)
def test_ollamas_ways_to_ask_for_a_form(asked, expected):
    for schema in (ollama.Chat(), ollama.Generate()):
        assert structured.of_ollama(schema.load({"model": "m", "format": asked})) == expected


def test_what_is_at_the_limits_is_taken():
    Schema().deserialize(nested(MAX_DEPTH))
    Schema().deserialize({"properties": {str(n): {} for n in range(MAX_PROPERTIES)}})
    Schema().deserialize({"enum": list(range(MAX_ENUM_VALUES))})
    Schema().deserialize({"pattern": "a" * MAX_PATTERN_CHARS})
    Schema().deserialize({"pattern": "(" * MAX_BRACKETS + ")" * MAX_BRACKETS})


@pytest.mark.parametrize(
    ("schema", "limit"),
    [
        (nested(MAX_DEPTH + 1), MAX_DEPTH),
        (nested(900), MAX_DEPTH),
        ({"description": "é" * (MAX_SCHEMA_BYTES // 2)}, MAX_SCHEMA_BYTES),
        ({"properties": {str(n): {} for n in range(MAX_PROPERTIES + 1)}}, MAX_PROPERTIES),
        ({"anyOf": [{"properties": {str(n): {} for n in range(600)}}] * 2}, MAX_PROPERTIES),
        ({"enum": list(range(MAX_ENUM_VALUES + 1))}, MAX_ENUM_VALUES),
        ({"properties": {"a": {"enum": list(range(600))}, "b": {"enum": list(range(600))}}}, MAX_ENUM_VALUES),
        ({"pattern": "a" * (MAX_PATTERN_CHARS + 1)}, MAX_PATTERN_CHARS),
        ({"patternProperties": {"(" * 100: {}}}, MAX_BRACKETS),
    ],
    ids=range(9),
)
def test_what_is_over_a_limit_is_refused_with_the_limit(schema, limit):
    with pytest.raises(ValidationError, match=rf"\b{limit}\b"):
        Schema().deserialize(schema)
    with pytest.raises(ValidationError) as refused:
        of_openai(response_format=named(schema))
    assert first_fault(refused.value.messages)[0] == "response_format.json_schema.schema"
    with pytest.raises(ValidationError):
        ollama.Chat().load({"model": "m", "format": schema})


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"regex": "(" * 20_000 + "a" + ")" * 20_000}, MAX_PATTERN_CHARS),
        ({"regex": "(" * 65 + "a" + ")" * 65}, MAX_BRACKETS),
        ({"grammar": "root ::= " + "(" * 20_000}, MAX_GRAMMAR_CHARS),
        ({"grammar": "root ::= " + "(" * 65}, MAX_BRACKETS),
    ],
    ids=range(4),
)
def test_patterns_and_grammars_have_limits_too(fields, limit):
    with pytest.raises(ValidationError, match=rf"\b{limit}\b"):
        of_openai(structured_outputs=fields)


@pytest.mark.parametrize("schema", [[], 1, "text", True, {"const": "\ud800"}])
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(ValidationError):
        of_openai(response_format=named(schema))


def test_ollama_has_no_other_formats():
    with pytest.raises(ValidationError):
        ollama.Chat().load({"model": "m", "format": "xml"})
