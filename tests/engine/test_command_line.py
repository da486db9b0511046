"""What a user reads when the machine, not the options, is the trouble."""

from __future__ import annotations

import pytest
import torch

from traiNNer.engine.command_line import run_plainly


def failing(error: Exception) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "set val.tile_size",
        ),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
            ),
            "val.tile_size",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
            "lower num_worker_per_gpu",
        ),
    ],
)
def test_a_machine_that_is_too_small_is_no_bug(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_plainly(lambda: failing(error)) == 1
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told
    assert "bug" not in told


def test_a_bug_is_shown_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_plainly(lambda: failing(RuntimeError("shapes cannot be multiplied"))) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "This is a bug in traiNNer" in told
