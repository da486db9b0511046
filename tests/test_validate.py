"""The check of an installation: all is well here, and what is not is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from traiNNer.utils.errors import TraiNNerError
from traiNNer.validate import Check, report


def test_this_installation_works(tmp_path: Path) -> None:
    """As a user calls it, and nothing is left behind."""
    command = [sys.executable, "-m", "traiNNer.validate"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILS" not in done.stdout
    for words in ("spandrel", "main memory", "bfloat16", "parts of 2", "can be written"):
        assert words in done.stdout
    assert not list(tmp_path.iterdir())


def test_what_fails_is_told_and_the_others_are_looked_at(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail() -> str:
        raise TraiNNerError("no ink")

    checks = (Check("ink", fail), Check("paper", lambda: "white"))
    assert report(checks) == 1
    told = capfd.readouterr().out
    assert "FAILS" in told
    assert "no ink" in told
    assert "white" in told
