"""Runs that visit easy images first, and the sheet of the hardest."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage import data

from tests.engine.test_recipes import Stop
from tests.engine.witness import curves
from tests.support import make_pairs, run_training, small_options
from traiNNer.automations import SimulatedOutOfMemoryError
from traiNNer.data.curriculum import LEAST_BLOCK
from traiNNer.data.shrinking import shrink
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run
from traiNNer.models import StepResult
from traiNNer.utils.images import read_image, write_image

COUNT = 10
BATCH = 64
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Ten images, of which the later ones have more contrast."""
    data = make_pairs(tmp_path / "data", count=COUNT, lq_size=24)
    for number in range(COUNT):
        for kind in ("gt", "lq"):
            path = data / kind / f"{number:03}.png"
            pixels = read_image(path).astype(np.float32)
            faint = 128 + (pixels - 128) * (number + 1) / COUNT
            write_image(path, faint.round().astype(np.uint8))
    options = small_options(data)
    options["val"] = {"val_enabled": False}
    options["datasets"]["train"] |= {
        "lq_size": 8,
        "batch_size_per_gpu": BATCH,
        "num_worker_per_gpu": 0,
        "curriculum": {"difficulty": "texture", "start": 0.2, "until": 0.5, "floor": None},
    }
    # Five blocks.
    options["train"]["total_iter"] = 5 * LEAST_BLOCK // BATCH
    options["logger"] = {"save_checkpoint_freq": 1000, "use_tb_logger": False}
    return options


class Seen(Part):
    """The images of each step; one step may run out of memory once."""

    name = "seen"

    def __init__(self, short_at: int | None = None) -> None:
        self.images: list[int] = []
        self._short_at = short_at

    def start(self, run: Run) -> None:
        run.recipe.main.module.register_forward_pre_hook(lambda *_: self._run_out(run))

    def after_step(self, run: Run, result: StepResult) -> None:
        self.images += result.indices

    def _run_out(self, run: Run) -> None:
        if self._short_at is not None and run.iteration >= self._short_at:
            self._short_at = None
            raise SimulatedOutOfMemoryError("full")


def trained(options: dict[str, Any], *arguments: str, **settings: Any) -> list[int]:
    seen = Seen(**settings)
    assert run_training(options, *arguments, parts=[seen]) == 0
    return seen.images


def test_faint_images_come_first_and_all_of_them_last(options: dict[str, Any]) -> None:
    images = trained(options)
    blocks = [images[n * LEAST_BLOCK : (n + 1) * LEAST_BLOCK] for n in range(5)]
    visited = [Counter(block) for block in blocks]
    # Before anything is known all are visited.
    assert set(visited[0]) == set(visited[1]) == set(range(COUNT))
    parts = [sorted(set(block)) for block in visited[2:]]
    assert all(part == list(range(len(part))) for part in parts)
    assert 3 < len(parts[0]) < len(parts[1]) <= len(parts[2]) == COUNT
    spread = visited[2].values()
    assert max(spread) - min(spread) <= 1


@pytest.mark.parametrize("difficulty", ["texture", "loss"])
def test_the_order_is_the_same_however_a_run_goes(options: dict[str, Any], difficulty: str) -> None:
    options["datasets"]["train"]["curriculum"]["difficulty"] = difficulty
    options["train"]["total_iter"] = 7 * LEAST_BLOCK // BATCH // 2
    wanted = trained(options)
    if difficulty == "texture":
        # To the losses a repeat in chunks is the same but for rounding.
        assert trained(options | {"name": "short"}, short_at=10) == wanted
        for count in (2, 4):
            workers = options | {"name": f"workers_{count}"}
            processes = f"datasets.train.num_worker_per_gpu={count}"
            assert trained(workers, "--set", processes) == wanted
    half = options | {"name": "half"}
    first = Seen()
    assert run_training(half, parts=[first, Stop(LEAST_BLOCK // BATCH * 2 + 7)]) == 130
    rest = trained(half, "--auto_resume")
    assert first.images + rest == wanted


def photographs(folder: Path) -> list[str]:
    """Pieces of photographs in place of what is there; their names."""
    for kind in ("gt", "lq"):
        for path in (folder / kind).iterdir():
            path.unlink()
    pieces = [
        photograph[top : top + 96, left : left + 96]
        for photograph in (data.astronaut(), data.coffee(), data.chelsea())
        for top in (0, 100, 200)
        for left in (0, 150, 300)
    ]
    names = [f"{number:03}.png" for number in range(len(pieces))]
    for name, piece in zip(names, pieces, strict=True):
        write_image(folder / "gt" / name, np.ascontiguousarray(piece))
        write_image(folder / "lq" / name, shrink(piece, 2, "bicubic"))
    return names


def test_planted_pairs_are_the_hardest(options: dict[str, Any], capfd: Capture) -> None:
    section = options["datasets"]["train"]
    del section["curriculum"]
    section["report_hardest"] = True
    section |= {"lq_size": 16, "batch_size_per_gpu": 16}
    options["network_g"] |= {"num_feat": 16, "num_conv": 2}
    options["train"] |= {"total_iter": 200, "optim_g": {"type": "AdamW", "lr": 5e-3}}
    options["logger"]["use_tb_logger"] = True
    names = photographs(Path(section["dataroot_gt"]).parent)
    lq = Path(section["dataroot_lq"])
    one, other = lq / names[2], lq / names[-1]
    swapped = one.read_bytes(), other.read_bytes()
    other.write_bytes(swapped[0])
    one.write_bytes(swapped[1])
    assert run_training(options) == 0
    folder = Path("experiments/small")
    assert "the hardest and the easiest places" in capfd.readouterr().err
    with (folder / "hardest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["place"] for row in rows][:2] == ["hardest 1", "hardest 2"]
    assert {Path(row["image"]).name for row in rows[:2]} == {names[2], names[-1]}
    assert all(float(row["difficulty"]) > 1 for row in rows[:2])
    assert len(rows) == len(names)
    assert sum(int(row["samples"]) for row in rows) == 200 * 16
    assert read_image(folder / "hardest.png").shape[1] > 1000
    assert curves("curriculum/places")[0][-1] == len(names)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("datasets.train.curriculum.difficulty=losss", "unknown difficulty; did you mean loss"),
        ("datasets.train.curriculum.start=0", "curriculum.start = 0: expected more than 0"),
        ("datasets.train.curriculum.until=1.5", "expected at most 1"),
        ("datasets.train.curriculum.temperature=-1", "expected at least 0"),
        ("datasets.train.curriculum.floor=0", "expected at least 1"),
        ("datasets.train.order={type: shuffled}", "curriculum and order are two orders"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    options: dict[str, Any], settings: str, words: str, capfd: Capture
) -> None:
    assert run_training(options, "--check", "--set", settings) == 2
    assert words in capfd.readouterr().err


def test_one_image_has_no_curriculum(
    options: dict[str, Any], tmp_path: Path, capfd: Capture
) -> None:
    data = make_pairs(tmp_path / "single", count=1, lq_size=24)
    options["datasets"]["train"] |= {
        "dataroot_gt": str(data / "gt"),
        "dataroot_lq": str(data / "lq"),
    }
    assert run_training(options, "--check") == 2
    assert "a curriculum needs two images or more" in capfd.readouterr().err
