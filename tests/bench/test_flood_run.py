"""The flood against a real server with the fake engine."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.flood import Plan, flood_bodies, measure
from bench.flood_client import Flood
from bench.server import DataFolder, Server, own_settings
from cli.settings import Settings


@pytest.fixture
def settings(tmp_path: Path):
    wanted = Settings(data_dir=tmp_path, backend="fake", fake_token_ms=1.0, embed_model="", llm_slots=2)
    with DataFolder(tmp_path) as folder:
        yield own_settings(wanted, folder)


def test_a_light_user_waits_for_a_slot_in_fair_order_and_for_the_whole_line_in_fifo(settings: Settings) -> None:
    found = measure(settings, Plan(depth=12, rounds=1, alone_requests=2, block_s=1.0))
    assert found.failed == 0
    assert len(found.alone.samples) == 2
    assert found.fair.flood_served > 0 and found.fifo.flood_served > 0
    assert found.ratio > 1.5


def test_a_refused_chat_is_counted_once_and_the_others_go_on(settings: Settings) -> None:
    # Given a server that lets one job wait, and a flood of six
    with Server(replace(settings, max_queued=1, fake_token_ms=20.0)) as server:
        with Flood(server, 6, flood_bodies(server, "a")) as flood:
            pass
        server.wait_until_idle()
    # Then those it refuses are failures with the server's own words, and none asked again
    assert 1 <= len(flood.failures) <= 5
    assert all("429" in text for text in flood.failures)
