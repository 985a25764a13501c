import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import BadModelName
from engines.models import names

GOOD = ["x", "smollm2:135m", "OpenVINO/Qwen3-0.6B-int4-ov", "all-minilm", "a/b/c:v1.5", "phi3.5:3.8b", "_x"]
BAD = [
    "",
    " ",
    "x\n",
    "../x",
    "/etc/passwd",
    ".hidden",
    "a/../b",
    "a/./b",
    "a//b",
    "a/",
    "a..b",
    "a--b",
    "-x",
    "x-",
    "a\\b",
    "C:/x",
    "x:",
    ":x",
    "x:y:z",
    "x:y/z",
    "a b",
    "a\0b",
    "ünicode",
    "x@main",
    "x" * 200,
    "%2e%2e",
    "~",
    "$HOME",
    "*",
]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_is_kept_as_it_is(name):
    assert names.normalise(name) == name


@pytest.mark.parametrize("name", BAD)
def test_a_hostile_name_is_refused(name):
    with pytest.raises(BadModelName):
        names.normalise(name)


def test_x_and_x_latest_are_one_model():
    assert names.normalise("x:latest") == "x"
    assert names.slug("a/x:LATEST") == names.slug("A/x")


def test_a_refusal_of_a_huge_name_is_short():
    with pytest.raises(BadModelName) as refusal:
        names.normalise("x" * 1_000_000)
    assert len(str(refusal.value)) < 400


@given(st.text(max_size=150))
def test_any_text_is_refused_or_becomes_one_plain_folder_name(text):
    try:
        folder = names.slug(text)
    except BadModelName:
        return
    assert folder not in ("", ".", "..")
    assert not set(folder) & set("/\\\0")
    assert not folder.startswith(".")
    assert len(folder.encode()) < 200


name = st.from_regex(
    r"[a-z0-9]([a-z0-9.-]?[a-z0-9]){0,3}(/[a-z0-9]([.-]?[a-z0-9]){0,3}){0,2}(:[a-z0-9]{1,3})?", fullmatch=True
)


@given(name, name)
def test_two_names_share_a_folder_only_if_they_are_one_model(one, other):
    try:
        same_folder = names.slug(one) == names.slug(other)
        same_name = names.normalise(one) == names.normalise(other)
    except BadModelName:
        return
    assert same_folder == same_name


@given(name)
def test_normalising_twice_changes_nothing(text):
    try:
        once = names.normalise(text)
    except BadModelName:
        return
    assert names.normalise(once) == once
