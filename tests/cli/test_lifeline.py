"""A process ends with its parent, by each of the ways there are."""

import signal

import psutil
import pytest

#: A process that starts a child as ours are started, and waits to be killed.
PARENT = """
import os, subprocess, sys
from cli import lifeline
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env={**os.environ, **lifeline.environment()})
print("child", child.pid, flush=True)
child.wait()
"""

DIE = """
import signal, sys, os
{before}
from cli.lifeline import die_with_parent
die_with_parent({how})
print("ready", flush=True)
{after}
"""
WAIT = "while True: signal.pause()"
EXEC = "os.execv('/bin/sleep', ['sleep', '60'])"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
NOT_LINUX = "sys.platform = 'darwin'"


@pytest.mark.parametrize(
    "child",
    [
        pytest.param(DIE.format(before="", how="", after=WAIT), id="by its parent's signal"),
        pytest.param(DIE.format(before=DEAF, how="insist=True", after=WAIT), id="though deaf"),
        pytest.param(DIE.format(before="", how="exec_follows=True", after=EXEC), id="as another program"),
        pytest.param(DIE.format(before=NOT_LINUX, how="", after=WAIT), id="by a thread"),
        pytest.param(DIE.format(before=NOT_LINUX, how="exec_follows=True", after=EXEC), id="by a watcher"),
    ],
)
def test_a_child_ends_soon_after_its_parent_was_killed(start, wait_until, gone, child):
    parent = start("-c", PARENT, child)
    said = sorted([parent.stdout.readline().split(), parent.stdout.readline().split()])
    pid = int(said[0][1])
    assert said[1] == ["ready"]

    parent.kill()
    parent.wait()

    try:
        wait_until(lambda: gone(pid), "the end of the child", deadline_s=8)
    finally:
        if not gone(pid):
            psutil.Process(pid).kill()


def test_a_child_whose_parent_is_gone_already_ends_at_once(start):
    orphan = start("-c", DIE.format(before="", how="parent_pid=1 << 22", after=WAIT))
    assert orphan.wait(timeout=10) == 1


def test_a_command_that_a_person_started_hangs_on_nobody(start):
    process = start("-c", DIE.format(before="", how="insist=True", after=WAIT))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == -signal.SIGTERM
