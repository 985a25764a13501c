"""Ranges of whole numbers, written out."""

from hypothesis import given
from hypothesis import strategies as st

from engines.json_schema import MAX_SPAN, exact


@given(low=st.integers(-2000, 2000), span=st.integers(0, 40), open_low=st.booleans(), open_high=st.booleans())
def test_a_narrow_range_is_the_list_of_its_numbers(low, span, open_low, open_high):
    schema = {
        "type": "integer",
        "exclusiveMinimum" if open_low else "minimum": low - open_low,
        "exclusiveMaximum" if open_high else "maximum": low + span + open_high,
        "description": "kept",
    }
    assert exact(schema) == {"description": "kept", "enum": list(range(low, low + span + 1))}


def test_only_those_that_are_allowed_are_listed():
    assert exact({"type": "integer", "minimum": 1, "maximum": 10, "multipleOf": 4}) == {"enum": [4, 8]}


def test_what_is_wide_open_or_not_whole_stays_as_it_is():
    for schema in (
        {"type": "integer", "minimum": 0, "maximum": MAX_SPAN},
        {"type": "integer", "minimum": 0},
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "integer", "minimum": 0.5, "maximum": 3},
        {"type": "integer", "minimum": 5, "maximum": 1},
        True,
    ):
        assert exact(schema) == schema


def test_schemas_within_schemas_are_found_and_what_only_looks_like_one_is_not():
    small = {"type": "integer", "minimum": 1, "maximum": 2}
    within = {
        "properties": {"enum": small, "type": {"type": "string"}},
        "items": [small],
        "anyOf": [{"items": small}],
        "$defs": {"x": small},
        "const": small,
        "default": small,
        "additionalProperties": small,
    }
    one = {"enum": [1, 2]}
    assert exact(within) == {
        **within,
        "properties": {"enum": one, "type": {"type": "string"}},
        "items": [one],
        "anyOf": [{"items": one}],
        "$defs": {"x": one},
        "additionalProperties": one,
    }
