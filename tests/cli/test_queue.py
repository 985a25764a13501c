"""`npu-proxy queue`: what waits and runs, shown to a person."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from cli import main
from cli.queue_view import ENTER, LEAVE, fit, plain
from jobs import overview, reports
from jobs.reports import Report
from tests.support.waiting import LIMIT_S

HOSTILE = "ev\x1b[31mil\x07\x9b\u202e\nname"


def run(*arguments, url):
    return CliRunner().invoke(main.main, ["queue", *arguments], env={"NPU_PROXY_REDIS_URL": url})


@pytest.fixture
def queued(store, submit):
    """Two jobs of ann, of which one runs, and one of whom you would not have as a user."""
    reports.write(store.redis, Report("w", "llm", "tiny:1b", "ready", device="NPU", slots=1, running=1, run_s=4.0))
    first = submit(user="ann")
    store.claim("llm", store.pick("llm", False), "w", "NPU")
    return first, submit(user="ann"), submit(user=HOSTILE)


def test_it_shows_engines_users_and_jobs_once_when_nobody_watches(valkey, queued):
    first, *waiting = queued
    result = run(url=valkey.url)
    assert result.exit_code == 0
    shown = result.output.splitlines()
    assert shown[:2] == [
        "llm: tiny:1b on NPU, ready",
        "  running 1 of 1, waiting 2 (2 interactive, 0 batch); a newcomer waits about 12 s",
    ]
    rows = [line.split() for line in shown]
    assert ["ann", "interactive", "1", "+0", "1", "1", "0"] in rows
    assert [row[:4] for row in rows if row[:1] == [first.id]] == [[first.id, "ann", "interactive", "0"]]
    assert rows.index(["running", "user", "lane", "tokens", "seconds"]) < rows.index(
        ["next", "user", "lane", "tokens", "seconds"]
    )
    for job in waiting:
        assert job.id in result.output
    assert shown[2:5] == [
        "embed: no worker",
        "  running 0 of 0, waiting 0 (0 interactive, 0 batch); a newcomer waits for an unknown time",
        "",
    ]
    assert shown[5] == "llm:"
    assert run("--once", url=valkey.url).output.splitlines()[0] == shown[0]


def test_what_is_left_out_is_counted(valkey, submit):
    for n in range(30):
        submit(user=f"user {n}")
    output = run(url=valkey.url).output
    assert "\n  … and 10 more\n" in output
    assert "\n  … and 25 more\n" in output


def test_of_more_users_than_are_counted_the_lanes_are_told_at_least(valkey, submit, monkeypatch):
    monkeypatch.setattr(overview, "POSITION_USERS", 2)
    for n in range(3):
        submit(user=f"user {n}")
    assert "waiting 3 (at least 2 interactive, 0 batch)" in run(url=valkey.url).output


def test_a_program_gets_one_json_document(valkey, queued):
    llm, embed = json.loads(run("--json", url=valkey.url).output)["engines"]
    assert (llm["engine"], llm["running"], llm["waiting"]) == ("llm", 1, 2)
    assert {user["user"] for user in llm["users"]} == {"ann", HOSTILE}
    assert [job["id"] for job in llm["running_jobs"]] == [queued[0].id]
    assert (embed["engine"], embed["workers"]) == ("embed", [])


@pytest.mark.parametrize("form", ["--once", "--json"])
def test_no_name_reaches_the_terminal_as_a_command(valkey, queued, submit, form):
    submit(user="\x7f\x00\r\x85")
    output = run(form, url=valkey.url).output
    assert all(c.isprintable() or c == "\n" for c in output)
    assert "\\x1b[31mil" in output or "\\u001b[31mil" in output


def test_what_does_not_fit_on_the_screen_is_said():
    assert fit(["1", "2", "3"], 3) == ["1", "2", "3"]
    assert fit(["1", "2", "3"], 2) == ["1", "… and 2 lines more: npu-proxy queue --once"]


def test_a_long_name_is_cut_and_a_strange_one_written_out():
    assert plain("x" * 1000, 5) == "xxxx…"
    assert plain("a\x00b\ud800") == "a\\x00b\\ud800"
    assert plain("李雷 Ünal") == "李雷 Ünal"


@pytest.mark.parametrize("form", ["--once", "--json"])
def test_without_redis_it_says_in_one_line_what_to_do(data_dir, form):
    for arguments in (["--data-dir", str(data_dir)], ["--redis-url", f"unix://{data_dir}/none.sock"]):
        result = CliRunner().invoke(main.main, ["queue", form, *arguments])
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.count("\n") == 1
        assert "start npu-proxy serve, or set --data-dir or --redis-url" in result.stderr


class Watched:
    """`npu-proxy queue` on a terminal of its own."""

    def __init__(self, url: str) -> None:
        self.screen, end = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli", "queue", "--redis-url", url], stdin=end, stdout=end, stderr=end
        )
        os.close(end)

    def until(self, text: str) -> None:
        """Read the screen until it has shown this."""
        give_up_at = time.monotonic() + LIMIT_S
        while text not in self.shown:
            ready, _, _ = select.select([self.screen], [], [], max(0, give_up_at - time.monotonic()))
            assert ready, f"{text!r} was never shown: {self.shown!r}"
            self.shown += os.read(self.screen, 65536).decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.screen)


@pytest.fixture
def watch():
    started = []

    def start(url: str) -> Watched:
        started.append(Watched(url))
        return started[-1]

    yield start
    for watched in started:
        watched.close()


def test_on_a_terminal_it_shows_changes_until_ctrl_c_and_leaves_the_screen_as_it_was(valkey, queued, submit, watch):
    watched = watch(valkey.url)
    watched.until(queued[1].id)
    watched.until(submit(user="bob").id)
    watched.process.send_signal(signal.SIGINT)
    watched.until(LEAVE)
    assert watched.process.wait(LIMIT_S) == 0
    assert watched.shown.startswith(ENTER)
    assert watched.shown.endswith(LEAVE)
    assert "\x1b[31m" not in watched.shown


def test_when_redis_goes_away_the_screen_is_left_as_it_was_with_one_line(own_valkey, watch):
    watched = watch(own_valkey.url)
    watched.until("embed: no worker")
    own_valkey.kill()
    watched.until("start npu-proxy serve")
    assert watched.process.wait(LIMIT_S) == 1
    assert watched.shown.partition(LEAVE)[2].startswith("Error: the queue of NPU_PROXY_REDIS_URL does not answer")
