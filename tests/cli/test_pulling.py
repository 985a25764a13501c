"""What a person sees of a pull."""

import pytest

from cli.errors import Failure
from cli.pulling import LONGEST_FILE, Bars, pull_models, short_step
from cli.settings import Settings


def test_without_a_terminal_each_step_is_one_line(capsys):
    with Bars("tiny") as bars:
        bars("pulling manifest")
        for completed in range(0, 101, 10):
            bars("downloading", "model.bin", completed, 100)
        bars("success")
    assert capsys.readouterr() == (
        "",
        "tiny: pulling manifest\ntiny: downloading model.bin\ntiny: success\n",
    )


def test_on_a_terminal_each_file_has_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Bars("tiny") as bars:
        bars("downloading", "a.bin", 50, 100)
        bars("downloading", "a.bin", 100, 100)
        # A download that proved wrong begins anew.
        bars("downloading", "b.bin", 80, 100)
        bars("downloading", "b.bin", 0, 100)
    shown = capsys.readouterr().err
    assert "downloading a.bin: 100%" in shown
    assert "downloading b.bin:" in shown


def test_a_long_name_keeps_its_end_which_tells_files_apart():
    step = short_step("verifying sha256 digest", "x" * 50 + "-2.bin")
    assert step.startswith("verifying …")
    assert step.endswith("-2.bin")
    assert len(step) == len("verifying ") + LONGEST_FILE


def test_a_model_that_nobody_knows_is_told(data_dir):
    with pytest.raises(Failure, match="nonesuch"):
        pull_models(Settings(data_dir=data_dir), ["nonesuch"])
