"""Whether a worker is dead, from its name."""

import os
import subprocess
import sys

import pytest

from jobs.process_name import is_dead, process_name


def test_a_process_that_lives_is_not_dead_and_one_that_ended_is():
    assert not is_dead(process_name("llm"))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_dead(process_name("llm").replace(f"-{os.getpid()}", f"-{ended.pid}"))


@pytest.mark.parametrize(
    "name", ["llm-elsewhere-0a1b2c3d-1", "llm-vm-4026531836-3999999", "w1", "", "llm--1", "llm-x-99999999999999999999"]
)
def test_of_a_process_that_ran_elsewhere_nothing_can_be_told(name):
    assert not is_dead(name)


def test_a_number_that_no_process_has_is_dead():
    assert is_dead(process_name("llm").replace(f"-{os.getpid()}", "-99999999999999999999"))
