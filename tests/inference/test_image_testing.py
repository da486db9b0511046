"""test.py on single images: names of results, what lies there already, files that fail."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.support import load_script, make_pairs, texture, write_options
from traiNNer.data import SingleImageDataset
from traiNNer.engine.scoring import picture_labels, picture_names
from traiNNer.inference.failures import Failures, IncompleteError
from traiNNer.utils.errors import DataError, DiskError
from traiNNer.utils.images import read_image, write_image
from traiNNer.utils.registry import ARCHS

WEIGHTS = Path("net.safetensors")
OUT = Path("results/t/s")
IN = Path("in")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def network() -> None:
    """A checkpoint whose results look like their inputs: weights of 0 leave what is added."""
    parameters = {"num_feat": 4, "num_conv": 1}
    weights = ARCHS["compact"](scale=2, **parameters).state_dict()
    metadata = {"arch": "compact", "scale": "2", "parameters": json.dumps(parameters)}
    save_file({key: torch.zeros_like(value) for key, value in weights.items()}, WEIGHTS, metadata)


def run(root: Path | str | list[str] = "in", **changes: Any) -> int:
    section = {"name": "s", "type": "SingleImageDataset", "dataroot_lq": root}
    options = {
        "name": "t",
        "num_gpu": 0,
        "datasets": {"test": section},
        "path": {"pretrain_network_g": str(WEIGHTS)},
    }
    return load_script("test.py").main(
        ["-opt", str(write_options(Path("t.yml"), options | changes))]
    )


def is_made_of(result: Path, seed: int) -> bool:
    return np.array_equal(read_image(result)[::2, ::2], texture(8, 8, seed))


def results() -> list[str]:
    return sorted(path.name for path in OUT.iterdir())


def test_no_two_inputs_share_a_result(capfd: Capture) -> None:
    names = ["a.bmp", "a.png", "b/A.png", "c/é.png", "d/e\u0301.png", "e/a_2.png"]
    for seed, name in enumerate(names):
        write_image(IN / f"{name}.png", texture(8, 8, seed))
        (IN / f"{name}.png").rename(IN / name)
    assert run() == 0
    assert len(results()) == 6
    # Whose own name it is keeps it, whatever the order.
    for seed, result in enumerate(["a_4.png", "a.png", "A_3.png", "é.png", "e\u0301_2.png"]):
        assert is_made_of(OUT / result, seed), result
    said = capfd.readouterr().err
    assert "the result of in/a.bmp is called a_4.png" in said
    assert "the result of in/b/A.png is called A_3.png" in said
    assert "in/a.png is called" not in said


def test_names_of_any_kind_have_results(capfd: Capture) -> None:
    names = [
        "-rf.png", " x.png", "100%s [red]b[red] :fire: {}.png", "a\nb\tc.png", '"q\'.png',
        "\U0001f600.png", "n" * 251 + ".png", "я" * 120 + ".bmp", os.fsdecode(b"caf\xe9.png"),
    ]  # fmt: skip
    for seed, name in enumerate(names):
        write_image(Path("one.png"), texture(8, 8, seed))
        IN.mkdir(exist_ok=True)
        Path("one.png").rename(IN / name)
    assert run() == 0
    assert results() == sorted(name.replace(".bmp", ".png") for name in names)
    assert "Traceback" not in capfd.readouterr().err


def test_names_in_the_table_stand_as_they_are(capfd: Capture) -> None:
    make_pairs(Path("data"), count=3, lq_size=16)
    names = ["shot [final]", "[b] :fire: a\nb", os.fsdecode(b"caf\xe9")]
    for side in ("gt", "lq"):
        for number, name in enumerate(names):
            Path(f"data/{side}/00{number}.png").rename(f"data/{side}/{name}.png")
    section = {"type": "PairedImageDataset", "dataroot_gt": "data/gt", "dataroot_lq": "data/lq"}
    assert run(datasets={"test_x": section}) == 0
    table = capfd.readouterr().out
    for shown in ("│ shot [final] ", "│ [b] :fire: a\\nb ", "│ caf\\xe9 "):
        assert shown in table


def test_what_an_earlier_run_has_left_is_said(capfd: Capture) -> None:
    for seed in range(3):
        write_image(IN / f"{seed}.png", texture(8, 8, seed))
    assert run() == 0
    assert "earlier run" not in capfd.readouterr().err
    (IN / "0.png").unlink()
    assert run() == 0
    said = capfd.readouterr().err
    assert f"{OUT}: results of an earlier run are replaced: 2" in said
    assert f"{OUT} holds what this run does not write, and it stays there: 0.png (1 name" in said
    assert results() == ["0.png", "1.png", "2.png"]


def test_bad_files_do_not_end_the_work(capfd: Capture) -> None:
    for seed in range(6):
        write_image(IN / f"{seed}.png", texture(8, 8, seed))
    (IN / "1.png").write_text("no picture")
    content = bytearray((IN / "3.png").read_bytes())
    # Within the pixels, which the scan does not look at.
    content[len(content) // 2] ^= 0xFF
    (IN / "3.png").write_bytes(content)
    (OUT / "5.png").mkdir(parents=True)
    assert run() == 1
    assert results() == ["0.png", "2.png", "4.png", "5.png"]
    said = capfd.readouterr().err
    assert "all is done but 3 things:" in said
    end = said[said.index("all is done but") :]
    assert "1.png: not a PNG" in end
    assert "3.png: the PNG is damaged" in end
    assert f"cannot write {OUT}/5.png" in end
    assert "Traceback" not in said
    (OUT / "5.png").rmdir()
    assert run() == 2, "the files are at fault, and not the machine"


def test_pictures_that_a_metric_does_not_take_have_no_score(capfd: Capture) -> None:
    make_pairs(Path("data"), count=2, lq_size=16)
    write_image(Path("data/lq/small.png"), texture(4, 4, 0))
    write_image(Path("data/gt/small.png"), texture(8, 8, 0))
    section = {"type": "PairedImageDataset", "dataroot_gt": "data/gt", "dataroot_lq": "data/lq"}
    assert run(datasets={"test_x": section}) == 2
    said = capfd.readouterr()
    assert "data/lq/small.png: no ssim: GT is 8x8, smaller than the 15x15" in said.err
    row = next(line for line in said.out.splitlines() if "small" in line)
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert float(cells[1]) > 0
    assert cells[2] == ""
    assert len(list(Path("results/t/test_x").iterdir())) == 3


def test_a_result_never_replaces_its_input(capfd: Capture) -> None:
    write_image(OUT / "a.png", texture(8, 8, 0))
    assert run(str(OUT)) == 2
    assert "the result would replace the image it is made of" in capfd.readouterr().err
    assert read_image(OUT / "a.png").shape == (8, 8, 3)


def test_a_folder_that_is_named_twice_is_read_once(capfd: Capture) -> None:
    write_image(IN / "a.png", texture(8, 8, 0))
    assert run(["in", "./in/", "in/a.png"]) == 0
    said = capfd.readouterr().err
    assert "in is named twice; it is read once" in said
    assert results() == ["a.png", "a_2.png"]


def test_labels_are_text_and_differ() -> None:
    for name in ("a\n.png", "a\\n.png"):
        write_image(Path("x.png"), texture(8, 8, 0))
        IN.mkdir(exist_ok=True)
        shutil.move("x.png", IN / name)
    names = picture_names(SingleImageDataset(2, "in"))
    assert sorted(names) == ["a\n", "a\\n"]
    assert sorted(picture_labels(names)) == ["a\\n", "a\\n_2"]


def disk_error(number: int) -> DiskError:
    error = DiskError("cannot write x.png")
    error.__cause__ = OSError(number, os.strerror(number))
    return error


@pytest.mark.parametrize("error", [disk_error(errno.ENOSPC), disk_error(errno.EROFS), KeyError()])
def test_what_all_others_would_share_is_raised_at_once(error: Exception) -> None:
    with pytest.raises(type(error)):
        Failures().add("x.png", error)


def test_failures_tell_who_is_at_fault() -> None:
    failures = Failures()
    failures.raise_if_any()
    for number in range(30):
        failures.add(f"{number}.png", DataError(f"{number}.png: damaged"))
    with pytest.raises(IncompleteError, match=r"30 things:(?s:.*)and 10 more") as error:
        failures.raise_if_any()
    assert error.value.exit_code == 2
    failures.add("big.png", RuntimeError("CUDA out of memory. Tried"))
    failures.add("y.png", disk_error(errno.EACCES))
    with pytest.raises(IncompleteError) as error:
        failures.raise_if_any()
    assert error.value.exit_code == 1
