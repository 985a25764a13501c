"""What the soak makes of its samples and answers, and a short one against a real server with the fake engine."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.server import DataFolder, own_settings
from bench.soak import run
from bench.soak_client import Wrong, check_chat, check_stream, check_vectors
from bench.soak_figures import Counts, Growth, Sample, Soak, growth, minute_line, report, trend, verdict
from cli.settings import Settings
from tests.support.waiting import until
from tests.support.workers import ROOT

TEN_MINUTES_S = 600


def soak(memory=lambda at_s: 100.0, keys=lambda at_s: 500, **found) -> Soak:
    """Ten minutes with a sample every five seconds."""
    times = [float(at_s) for at_s in range(0, TEN_MINUTES_S, 5)]
    samples = [Sample(at_s, {"redis": 10.0, "api worker": memory(at_s)}, keys(at_s)) for at_s in times]
    given = {"counts": Counts(100, 0, 6000), "left_keys": 0, **found}
    return Soak(60, samples, took_s=TEN_MINUTES_S, **given)


def test_a_soak_without_errors_in_which_nothing_grows_is_good():
    assert soak().complaints() == []
    assert verdict(soak()).startswith("good")


def test_what_fills_in_the_warm_up_is_no_growth():
    found = soak(memory=lambda at_s: 50 + min(at_s, 59.0), keys=lambda at_s: min(500, int(at_s * 10)))
    assert found.complaints() == []


def test_a_process_that_grows_by_more_than_five_percent_is_named():
    found = soak(memory=lambda at_s: 100 + at_s / 60)
    assert found.memory()["api worker"].part == pytest.approx(0.07, abs=0.01)
    assert found.complaints() == [f"api worker grew by {found.memory()['api worker'].part:.1%}"]


def test_a_single_peak_is_no_growth():
    assert soak(memory=lambda at_s: 300.0 if at_s == 595 else 100.0).complaints() == []


def test_keys_that_come_and_go_are_flat_and_keys_that_only_come_are_not():
    assert soak(keys=lambda at_s: 500 + (40 if at_s % 10 else -40)).complaints() == []
    [complaint] = soak(keys=lambda at_s: 500 + int(at_s / 5)).complaints()
    assert complaint.startswith("keys grew by")


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ({"counts": Counts(9, 1, 0), "faults": ["calls: 500"]}, "1 errors, such as: calls: 500"),
        ({"restarts": 2}, "2 processes were started again"),
        ({"left_keys": 4}, "4 keys of jobs outlived them"),
        ({"counts": Counts()}, "nothing was asked"),
    ],
)
def test_whatever_else_is_not_good_is_said(found, word):
    assert soak(**found).complaints() == [word]
    assert verdict(soak(**found)) == f"NOT GOOD: {word}"


def test_a_soak_that_was_stopped_at_once_has_figures_too():
    assert Soak(60).memory() == {}
    assert Soak(60).keys() is None
    assert "0 requests" in report(Soak(60), "here")


def test_growth_is_from_the_first_fifth_to_the_last():
    assert growth([1, 1, 5, 5, 5, 5, 5, 5, 2, 2]) == Growth(1, 2)
    assert growth([3]) == Growth(3, 3)
    assert Growth(0, 5).part == 0


def test_a_trend_is_the_line_through_all_points():
    line = trend([(0, 10), (1, 30), (2, 10), (3, 30)])
    assert [line.first, line.last] == pytest.approx([14, 26])
    assert trend([(5, 7), (5, 9)]) == Growth(8, 8)


def test_the_report_is_a_table_with_a_bound_for_each_figure():
    lines = report(soak(), "here").splitlines()
    assert lines[0].startswith("10 minutes, here: 100 requests")
    assert {line.count("|") for line in lines if line.startswith("|")} == {6}
    assert "| api worker | 100.0 MB | 100.0 MB | +0.0% | ≤ 5% |" in lines


def test_a_minute_is_told_in_a_line():
    line = minute_line(3, Counts(120, 1, 6000), 60, Sample(180, {"redis": 9.6}, 512))
    assert line.split() == "3 min 120 requests 1 errors 100 tokens/s 512 keys MB: redis 10".split()


# --- answers


def chat(tokens=5, content="x", reason="length"):
    choice = {"message": {"content": content}, "finish_reason": reason}
    return {"choices": [choice], "usage": {"completion_tokens": tokens}}


def test_a_whole_answer_is_worth_its_tokens():
    assert check_chat(chat(), 5) == 5


@pytest.mark.parametrize("body", [chat(4), chat(content=""), chat(reason="stop")])
def test_an_answer_that_is_not_whole_is_wrong(body):
    with pytest.raises(Wrong):
        check_chat(body, 5)


def chunk(text="", reason=None, **more):
    return "data: " + json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": reason}], **more})


USAGE = 'data: {"choices": [], "usage": {"completion_tokens": 2}}'
END = "data: [DONE]"


def test_a_whole_stream_is_worth_its_tokens():
    assert check_stream([": queued", "", chunk("a"), chunk("b"), chunk(reason="length"), USAGE, END], 2) == 2


@pytest.mark.parametrize(
    "lines",
    [
        [chunk("a"), chunk(reason="length"), USAGE],
        [chunk("a"), USAGE, END],
        [chunk(reason="length"), USAGE, END],
        [chunk("a"), chunk(reason="length"), END],
        [chunk("a"), 'data: {"error": {"message": "no"}}'],
        [],
    ],
    ids=["no end", "no reason", "no text", "no usage", "an error", "nothing"],
)
def test_a_stream_that_broke_off_is_wrong(lines):
    with pytest.raises(Wrong):
        check_stream(lines, 2)


def test_vectors_are_as_many_as_the_texts_and_of_length_one():
    check_vectors({"data": [{"embedding": [0.6, 0.8]}]}, 1)
    with pytest.raises(Wrong):
        check_vectors({"data": [{"embedding": [0.6, 0.8]}]}, 2)
    with pytest.raises(Wrong):
        check_vectors({"data": [{"embedding": [0.6, 0.9]}]}, 1)


# --- all of it


def test_a_soak_of_seconds_finds_a_server_without_faults(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("bench.soak.TTL_S", 0)
    monkeypatch.setattr("bench.soak.SAMPLE_S", 0.5)
    wanted = Settings(data_dir=tmp_path, backend="fake", fake_token_ms=3.0, result_ttl_s=60, reply_ttl_s=1)
    with DataFolder(tmp_path) as folder:
        found, stopped = run(own_settings(wanted, folder), 3, 6)
    assert (stopped, found.counts.errors, found.restarts) == (False, 0, 0), found.faults
    assert found.counts.requests > 6
    assert {"redis", "api arbiter", "api worker", "llm worker", "llm engine", "embed engine"} <= found.memory().keys()
    assert all(sample.keys for sample in found.samples)


def test_ctrl_c_ends_it_with_what_was_measured(tmp_path: Path):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("NPU_PROXY_")},
        "NPU_PROXY_BACKEND": "fake", "NPU_PROXY_DATA_DIR": str(tmp_path), "NPU_PROXY_CONFIG": os.devnull,
    }  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as out:
        bench = subprocess.Popen(
            [sys.executable, "-m", "bench.soak", "--clients", "3", "--report", str(tmp_path / "report.md")],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
        try:
            until(lambda: "the clients ask" in log.read_text(), 30, "a soak that has begun")
            bench.send_signal(signal.SIGINT)
            assert bench.wait(20) == 130
        finally:
            bench.kill()
            bench.wait()
    assert "stopping" in log.read_text()
    assert (tmp_path / "report.md").read_text().startswith("0 minutes")
