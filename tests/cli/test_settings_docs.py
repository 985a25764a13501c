"""The docs of the settings are the table."""

from cli import settings_docs
from cli.settings import table
from cli.settings_load import load


def test_the_page_in_docs_equals_the_table(root):
    assert (root / "docs/settings.md").read_text(encoding="utf-8") == settings_docs.markdown(), (
        "run: npu-proxy settings --markdown > docs/settings.md"
    )


def test_the_listing_names_every_setting_with_its_origin():
    lines = settings_docs.listing(load({"port": "7"}, {})).splitlines()
    assert [line.split()[0] for line in lines] == [row.name for row in table()]
    assert "port                     7                     option --port".split() in [
        line.split() for line in lines
    ]


def test_the_listing_keeps_a_redis_password_to_itself():
    listing = settings_docs.listing(load({}, {"REDIS_URL": "redis://me:secret@host:1/0"}))
    assert "secret" not in listing
    assert "redis://***@host:1/0" in listing
