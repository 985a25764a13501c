from pathlib import Path
from typing import get_args

import pytest

from engines.models import catalogue
from engines.models.catalogue import Entry
from engines.models.manifest import Kind, Pooling
from engines.models.reference import PipReference, parse

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
ENTRIES = list(catalogue.entries().values())


def row(entry: Entry) -> str:
    size = (
        f"{entry.download_megabytes / 1000:.1f} GB"
        if entry.download_megabytes >= 1000
        else f"{entry.download_megabytes} MB"
    )
    return f"| `{entry.name}` | `{entry.reference}` | {size} | {entry.description} |"


def test_the_page_shows_the_catalogue_as_it_is():
    section = PAGE.read_text().partition("## Catalogue")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [row(entry) for entry in ENTRIES]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_is_complete_and_says_only_what_is_known(entry):
    assert catalogue.find(entry.name) == entry
    assert entry.description
    assert entry.download_megabytes > 0
    assert entry.overrides.kind in (None, *get_args(Kind))
    assert entry.overrides.pooling in (None, *get_args(Pooling))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_package_is_pinned_by_hash(entry):
    if isinstance(entry.reference, PipReference):
        assert len(entry.reference.wheel_sha256 or "") == 64
        assert all(len(value) == 64 for value in entry.reference.files_sha256.values())
        assert entry.reference.files_sha256


@pytest.mark.parametrize(
    "text",
    [
        "hf:owner/repo",
        "hf:owner/repo@v1.0",
        "hf:owner/repo/dir/file.gguf@0123abc",
        "pip:some-package==1.0.post1/dir/file.gguf",
        "dir:/models/x",
    ],
)
def test_a_reference_reads_as_it_was_written(text):
    assert str(parse(text)) == text


def test_a_name_with_a_tag_is_no_source():
    assert parse("smollm2:135m") is None
    assert parse("all-minilm") is None
