import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import CorruptModel
from engines.models.manifest import EmbeddingFacts, ModelFile, from_json, safe_path, to_json
from tests.models.tiny_models import manifest

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def test_a_manifest_survives_json():
    facts = EmbeddingFacts("cls", True, 384, query_instruction="query: ")
    for original in (manifest(), replace(manifest(), kind="embed", embedding=facts)):
        assert from_json(to_json(original), "here") == original


def test_the_size_is_the_sum_of_the_files():
    files = (ModelFile("a", "1" * 64, 10), ModelFile("b", "2" * 64, 32))
    assert manifest(files=files).size_bytes == 42


def test_the_digest_names_the_content_and_not_the_model():
    one, two = ModelFile("a", "1" * 64, 10), ModelFile("b", "2" * 64, 32)
    digest = manifest("x", (one, two)).digest
    assert digest == manifest("y", (two, one)).digest
    assert digest != manifest("x", (one, replace(two, sha256="3" * 64))).digest
    assert len(digest) == 64


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "7", "{}", '{"version": 2}', "[" * 100_000])
def test_what_is_no_manifest_is_a_clear_error(text):
    with pytest.raises(CorruptModel, match="the manifest of tiny is damaged"):
        from_json(text, "tiny")


@given(st.sampled_from(sorted(json.loads(to_json(manifest())))), json_values)
def test_any_damage_to_a_field_is_harmless_or_a_clear_error(field, value):
    data = json.loads(to_json(manifest()))
    data[field] = value
    try:
        from_json(json.dumps(data), "tiny")
    except CorruptModel:
        pass


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", ".", "a\\b", "a\0b"])
def test_a_file_outside_the_folder_is_refused(path):
    with pytest.raises(ValueError, match="leaves its folder"):
        safe_path(path)
    data = json.loads(to_json(manifest()))
    data["files"][0]["path"] = path
    with pytest.raises(CorruptModel):
        from_json(json.dumps(data), "tiny")
