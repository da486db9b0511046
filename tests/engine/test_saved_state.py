"""State files: every entry is what it was, or one sentence says which is not."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from traiNNer.engine.folders import RunFolders, find_resume_state, tidy
from traiNNer.engine.saved_state import FORMAT, DamagedStateError, read_state, state_bytes
from traiNNer.options.schema import PathOptions
from traiNNer.utils.errors import CheckpointError
from traiNNer.utils.seeds import rng_state


def state(**files: str) -> dict[str, Any]:
    """A small state with every part."""
    phase = {
        "optimizer": {
            "state": {0: {"exp_avg": torch.zeros(2)}},
            "param_groups": [{"params": [0]}],
        },
        "scheduler": {"last_epoch": 3},
        "scaler": {},
        "guard": {"total": 0, "in_a_row": 0},
    }
    return {
        "format": FORMAT,
        "files": {"net_g": {"name": "net_g_3.safetensors", "sha256": "0" * 64}} | files,
        "parts": {
            "recipe": {
                "iteration": 3,
                "samples": 6,
                "pixels": 1536,
                "seconds": 0.5,
                "length": {"key": "total_iter", "total": 6, "step": 1},
                "place": 3,
                "out_of_memory_total": 0,
                "phases": {"generator": phase},
                "averages": {"ema": 3},
            },
            "stream": {
                "samples_consumed": 12,
                "replaced_total": 0,
                "samples_per_epoch": 7,
                "seed": 0,
                "order": {},
            },
            "memory": {
                "automations": {"automations": {}, "wishes": {}, "decider": "x"},
                "history": [{"iteration": 1.0}],
                "moves": 0,
            },
            "checkpoints": {"best": {"metric": "psnr", "value": 30.0, "iteration": 3}},
            "a program's own": {"anything": [1]},
            "random": rng_state(),
        },
        "options": {"train": {"optim_g": {"type": "AdamW"}, "scheduler": None}},
    }


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "3.state"
    path.write_bytes(state_bytes(state()))
    read = read_state(path)
    assert read["parts"]["stream"] == state()["parts"]["stream"]
    assert read["parts"]["a program's own"] == {"anything": [1]}


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("files", None),
        ("files", [1]),
        ("files.net_g", "net_g_3.safetensors"),
        ("files.net_g.name", "../../x.safetensors"),
        ("files.net_g.name", "a\0.safetensors"),
        ("files.net_g.sha256", "0"),
        ("parts", None),
        ("parts.recipe", None),
        ("parts.recipe.iteration", "x"),
        ("parts.recipe.iteration", -3),
        ("parts.recipe.iteration", 10**30),
        ("parts.recipe.iteration", True),
        ("parts.recipe.samples", 1.5),
        ("parts.recipe.pixels", -1),
        ("parts.recipe.seconds", float("inf")),
        ("parts.recipe.length.key", "total_days"),
        ("parts.recipe.length.total", 0),
        ("parts.recipe.length.step", "x"),
        ("parts.recipe.length", {}),
        ("parts.recipe.averages.ema", 1.5),
        ("parts.recipe.phases.generator.optimizer", None),
        ("parts.recipe.phases.generator.optimizer.state", {"0": {}}),
        ("parts.recipe.phases.generator.scheduler", "x"),
        ("parts.recipe.phases.generator.scaler", [1]),
        ("parts.recipe.phases.generator.guard", None),
        ("parts.stream", {}),
        ("parts.stream.samples_consumed", -5),
        ("parts.stream.samples_per_epoch", 0),
        ("parts.memory", "x"),
        ("parts.memory.history", [{"iteration": "x"}]),
        ("parts.recipe.out_of_memory_total", None),
        ("parts.checkpoints.best", [1]),
        ("parts.checkpoints.best", {"metric": "psnr"}),
        ("parts.checkpoints.best.value", float("nan")),
        ("parts.a program's own", [1]),
        ("parts.random.torch", [1]),
        ("parts.random.numpy", []),
        ("options", None),
        ("options.train", []),
        ("options.train.scheduler", 3),
        ("format", "3"),
    ],
)
def test_every_entry_is_looked_at(tmp_path: Path, entry: str, value: object) -> None:
    wrong = copy.deepcopy(state())
    *outer, last = entry.split(".")
    place: Any = wrong
    for key in outer:
        place = place[key]
    place[last] = value
    path = tmp_path / "3.state"
    path.write_bytes(state_bytes(wrong))
    with pytest.raises(DamagedStateError) as error:
        read_state(path)
    assert f"{path} is damaged ({entry}" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_flipped_bit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "3.state"
    whole = state_bytes(state())
    # Every part of the file, its checksum, and the words before that.
    for place in (*range(0, len(whole), len(whole) // 200), *range(len(whole) - 82, len(whole))):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        with pytest.raises(DamagedStateError, match=r"3\.state"):
            read_state(path)


def test_a_state_without_a_checksum_and_one_of_before(tmp_path: Path) -> None:
    path = tmp_path / "3.state"
    torch.save(state(), path)
    with pytest.raises(DamagedStateError, match="its checksum is missing"):
        read_state(path)
    torch.save({"format": 2}, path)
    with pytest.raises(CheckpointError, match=r"format 2, and this version reads format 5") as old:
        read_state(path)
    assert not isinstance(old.value, DamagedStateError)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "3.state"
    os.mkfifo(path)
    with pytest.raises(DamagedStateError, match="is no file"):
        read_state(path)


@pytest.fixture
def folders(tmp_path: Path) -> RunFolders:
    """A run with the states 2 and 10, which need no weights."""
    folders = RunFolders(tmp_path / "run", tmp_path / "tb")
    folders.create()
    for number in (2, 10):
        (folders.states / f"{number}.state").write_bytes(state_bytes(state() | {"files": {}}))
    return folders


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def lost_weights(path: Path) -> None:
    path.write_bytes(state_bytes(state()))


@pytest.mark.parametrize("damage", [cut, lost_weights, lambda path: path.write_bytes(b"")])
def test_auto_resume_takes_the_state_before_a_damaged_one(
    folders: RunFolders, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    path = PathOptions()
    (folders.states / "\u00b2\u00b3.state").write_bytes(b"no number")
    assert find_resume_state(folders, path, auto_resume=True) == folders.states / "10.state"
    damage(folders.states / "10.state")
    assert find_resume_state(folders, path, auto_resume=True) == folders.states / "2.state"
    assert "10.state" in caplog.text
    assert f"Goes on from {folders.states / '2.state'}, the one before." in caplog.text
    with pytest.raises(CheckpointError, match=r"10\.state.*\nA training would go on from .*2"):
        find_resume_state(folders, path, auto_resume=True, check=True)
    damage(folders.states / "2.state")
    with pytest.raises(CheckpointError, match="holds no checkpoint that is whole"):
        find_resume_state(folders, path, auto_resume=True)


def test_only_what_a_kill_has_left_is_tidied(folders: RunFolders) -> None:
    left = folders.models / ".net_g_5.safetensors.k3_x9abc.tmp"
    others = [folders.models / name for name in (".mine.tmp", "net.tmp", ".x.ABCDEFGH.tmp")]
    for path in (left, *others):
        path.touch()
    tidy(folders)
    assert not left.exists()
    assert all(path.exists() for path in others)
