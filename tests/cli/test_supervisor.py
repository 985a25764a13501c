"""`serve` and its children: restart, order of the end, and nobody left behind. Real processes throughout."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.child import FIRST_DELAY_S, HEALTHY_AFTER_S, LONGEST_DELAY_S, ending, restart_delay_s

SUPERVISE = str(Path(__file__).parent / "programs" / "supervise.py")

#: Says its id, hangs on its parent as our processes do, and ends at SIGTERM with a word.
POLITE = """
import os, signal, sys
from cli.lifeline import die_with_parent
die_with_parent()
def end(*_):
    print("bye", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("pid", os.getpid(), flush=True)
while True:
    signal.pause()
"""

STUBBORN = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("pid", os.getpid(), flush=True)
while True:
    signal.pause()
"""

#: Leaves a child of its own behind that no one waits for.
PARENT = """
import os, signal
if os.fork() == 0:
    print("pid", os.getpid(), flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()
signal.pause()
"""

CRASHING = "print('here', flush=True); raise SystemExit(3)"


class Output:
    """Everything a process has said so far, read while it runs."""

    def __init__(self, process):
        self.lines = []
        self._thread = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._thread.start()

    def _read(self, stream):
        for line in stream:
            self.lines.append(line.rstrip("\n"))

    def said(self, name):
        said = (line.split("│", 1) for line in list(self.lines) if "│" in line)
        return [text.strip() for who, text in said if who.strip() == name]

    def pid(self, name):
        """The id the child said last, once it has said one."""
        pids = [text for text in self.said(name) if text.startswith("pid ")]
        return int(pids[-1].split()[1]) if pids else None

    def finish(self):
        self._thread.join(timeout=10)
        return self.lines


@given(st.floats(0, 100), st.floats(0, 100))
def test_waits_double_up_to_a_limit_and_start_anew_after_a_healthy_life(previous_s, lived_s):
    delay_s = restart_delay_s(previous_s, lived_s)
    assert delay_s <= LONGEST_DELAY_S
    if lived_s >= HEALTHY_AFTER_S or previous_s == 0:
        assert delay_s == FIRST_DELAY_S
    else:
        assert delay_s == min(2 * previous_s, LONGEST_DELAY_S)


def test_an_ending_is_told_in_words():
    assert ending(3) == "exit code 3"
    assert ending(-9) == "SIGKILL"


def test_a_child_that_crashes_is_started_again_later_each_time(start, wait_until):
    output = Output(start(SUPERVISE, "bad", "1", CRASHING))

    wait_until(lambda: len(output.said("bad")) >= 2, "a second start")

    assert output.said("serve")[0] == "bad ended (exit code 3); starts again in 0.5 s"
    wait_until(lambda: len(output.said("serve")) >= 2, "a second end")
    assert output.said("serve")[1] == "bad ended (exit code 3); starts again in 1 s"


def test_a_child_that_is_killed_is_started_again_and_the_others_are_left_alone(start, wait_until, gone):
    output = Output(start(SUPERVISE, "one", "1", POLITE, "two", "1", POLITE))
    wait_until(lambda: output.pid("one") and output.pid("two"), "both children")
    first, other = output.pid("one"), output.pid("two")

    os.kill(first, signal.SIGKILL)

    wait_until(lambda: output.pid("one") != first, "another process")
    assert output.pid("two") == other
    assert not gone(other)


def test_what_a_dead_child_left_behind_is_ended(start, wait_until, gone):
    output = Output(start(SUPERVISE, "parent", "1", PARENT))
    wait_until(lambda: output.pid("parent"), "the grandchild")
    grandchild = output.pid("parent")

    parent = psutil.Process(grandchild).parent()
    assert parent is not None
    parent.kill()

    wait_until(lambda: gone(grandchild), "the end of the grandchild")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_the_children_in_their_order(start, wait_until, number):
    process = start(SUPERVISE, "redis", "1", POLITE, "api", "0.4", POLITE, "llm", "0.9", POLITE)
    output = Output(process)
    wait_until(lambda: all(output.pid(name) for name in ("redis", "api", "llm")), "all children")

    process.send_signal(number)

    assert process.wait(timeout=5) == 0
    byes = [line.split()[0] for line in output.finish() if line.endswith("bye")]
    assert byes == ["api", "llm", "redis"]


def test_a_child_that_does_not_end_is_killed_in_time(start, wait_until, gone):
    process = start(SUPERVISE, "deaf", "0.5", STUBBORN, "redis", "1", POLITE, SHUTDOWN_S="1")
    output = Output(process)
    wait_until(lambda: output.pid("deaf") and output.pid("redis"), "both children")

    told_s = time.monotonic()
    process.terminate()

    assert process.wait(timeout=5) == 0
    assert time.monotonic() - told_s < 1.5
    output.finish()
    assert output.said("serve") == ["deaf did not end in time and was killed"]
    assert "bye" in output.said("redis")
    assert gone(output.pid("deaf"))


def test_a_second_signal_kills_at_once(start, wait_until, gone):
    process = start(SUPERVISE, "deaf", "1", STUBBORN, SHUTDOWN_S="60")
    output = Output(process)
    wait_until(lambda: output.pid("deaf"), "the child")

    process.send_signal(signal.SIGINT)
    wait_until(lambda: process.poll() is not None or process.send_signal(signal.SIGINT), "the end")

    assert gone(output.pid("deaf"))


def test_kill_9_of_the_supervisor_leaves_no_child(start, wait_until, gone):
    process = start(SUPERVISE, "one", "1", POLITE, "two", "1", POLITE)
    output = Output(process)
    wait_until(lambda: output.pid("one") and output.pid("two"), "both children")

    process.kill()

    wait_until(lambda: gone(output.pid("one")) and gone(output.pid("two")), "the end of both", deadline_s=5)


def test_children_do_not_share_the_process_group_that_ctrl_c_reaches(start, wait_until):
    process = start(SUPERVISE, "one", "1", POLITE)
    output = Output(process)
    wait_until(lambda: output.pid("one"), "the child")
    assert os.getpgid(output.pid("one")) != os.getpgid(process.pid)
    assert os.getsid(output.pid("one")) == os.getsid(process.pid)
