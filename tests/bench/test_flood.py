"""The flood's figures, text and picture, from data that is made up."""

import json
from itertools import islice
from pathlib import Path

import pytest

from bench import flood
from bench.flood_figures import Result, Sample, Series, report, summary
from bench.flood_plot import draw, spread
from bench.server import Server
from cli.settings import Settings


def series(*ttfts_ms: float, **more) -> Series:
    return Series([Sample(2.0 * number, ms) for number, ms in enumerate(ttfts_ms)], **more)


def result(**failed: Series) -> Result:
    measured = {
        "alone": series(60.0, 62.0, 70.0),
        "fair": series(250.0, 300.0, 900.0, flood_served=90, flood_s=42.4),
        "fifo": series(6000.0, 5400.0, 7500.0, flood_served=88, flood_s=47.0),
    }
    return Result(32, **{**measured, **failed})


def test_a_summary_is_of_times_that_were_measured() -> None:
    found = summary([float(ms) for ms in range(1, 101)])
    assert (found.count, found.median_ms, found.p95_ms, found.worst_ms) == (100, 50.5, 95.0, 100.0)


def test_without_samples_there_is_no_summary() -> None:
    with pytest.raises(ValueError):
        summary([])


def test_the_report_has_each_situation_s_figures_and_the_ratio() -> None:
    lines = report(result()).splitlines()
    assert [line.split()[-4:] for line in lines[2:5]] == [
        ["3", "62", "70", "70"],
        ["3", "300", "900", "900"],
        ["3", "6,000", "7,500", "7,500"],
    ]
    text = "\n".join(lines)
    assert "FIFO is ×20.0 of fair; fair is ×4.8 of alone" in text
    assert "fair: 90 chats in 42 s, FIFO: 88 chats in 47 s" in text
    assert "Every request was answered whole." in text


def test_the_report_says_what_fifo_is() -> None:
    assert "both as one user" in report(result()).splitlines()[-1]


def test_failed_requests_are_counted_and_the_first_is_told() -> None:
    # Given one refusal of the light user and two of the flood
    measured = result(
        fair=series(300.0, failures=["429 Too Many Requests"]),
        fifo=series(6000.0, flood_failures=["503", "the server closed a connection early"]),
    )
    # Then the run counts as failed, and says so
    assert measured.failed == 3
    assert "FAILED: 1 requests of the light user, 2 of the flood; the first: 429" in report(measured)


def test_a_situation_without_an_answer_is_shown_as_such() -> None:
    rows = [line for line in report(result(alone=series(1.0))).splitlines() if line.startswith("alone")]
    assert rows[0].split() == ["alone", "1", "1", "1", "1"]


def test_the_plot_is_a_png_fit_for_a_page(tmp_path: Path) -> None:
    path = tmp_path / "new" / "fairness.png"
    draw(result(), path)
    image = path.read_bytes()
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    assert (int.from_bytes(image[16:20]), int.from_bytes(image[20:24])) == (1200, 600)
    assert 10_000 < len(image) < 100_000


def test_the_same_figures_make_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "other"):
        draw(result(), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_labels_of_near_values_do_not_overlap() -> None:
    assert spread([70.0, 500.0, 6000.0], 1.8) == [70.0, 500.0, 6000.0]
    assert spread([100.0, 110.0, 120.0], 2.0) == [100.0, 200.0, 400.0]


def test_the_flood_asks_the_same_whoever_the_user_is() -> None:
    # Given the flood as one user and as another
    server = Server(Settings())
    one, other = ([json.loads(body) for body in islice(flood.flood_bodies(server, user), 50)] for user in "ab")
    # Then they differ in the user's name alone, and no prompt comes twice
    assert [{**body, "user": ""} for body in one] == [{**body, "user": ""} for body in other]
    assert {body["user"] for body in one} == {"a"}
    assert len({body["messages"][0]["content"] for body in one}) == 50
    least, most = flood.FLOOD_TOKENS
    assert all(least <= body["max_tokens"] <= most for body in one)


def test_nothing_is_drawn_unless_asked_for(capsys) -> None:
    assert flood._parse([]).plot is None
    asked = flood._parse(["--quick", "--plot", "docs/fairness.png"])
    assert asked.quick and asked.plot == Path("docs/fairness.png")
    with pytest.raises(SystemExit):
        flood._parse(["--depth"])
    assert "unrecognized" in capsys.readouterr().err
