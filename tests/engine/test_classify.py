"""A classifier through train.py and test.py: it learns, resumes, grows, survives, and says what is
wrong.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import train
from tests.engine.witness import Witness, card
from tests.support import load_script, run_training, write_options
from traiNNer.utils.images import write_image
from traiNNer.utils.shape import Shape


def make_stripes(root: Path, count: int = 12, side: int = 40) -> Path:
    """Two classes that any network tells: stripes across and stripes down."""
    generator = np.random.default_rng(0)
    for number in range(count):
        stripes = (np.arange(side) // 4 % 2 * 120 + generator.integers(0, 60)).astype(np.uint8)
        across = np.broadcast_to(stripes[:, None, None], (side, side, 3))
        noise = generator.integers(0, 40, (side, side, 3), dtype=np.uint8)
        write_image(root / "across" / f"{number:02}.png", across + noise)
        write_image(root / "down" / f"{number:02}.png", across.swapaxes(0, 1) + noise)
    return root


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    root = make_stripes(tmp_path / "data")
    section = {"type": "ImageFolderDataset", "dataroot": str(root), "use_hflip": True}
    return {
        "name": "stripes",
        "model_type": "classifier",
        "num_gpu": 0,
        "datasets": {
            "train": section
            | {"val_split": 0.25, "lq_size": 32, "batch_size_per_gpu": 6, "num_worker_per_gpu": 0}
        },
        "network_g": {"type": "squeezenet1_1", "num_classes": 2},
        "train": {
            "total_iter": 30,
            "optim_g": {"type": "adamw", "lr": 5e-4},
            "losses": [{"type": "cross_entropy"}],
            "ema_decay": 0.5,
        },
        "val": {"val_freq": 15},
        "logger": {"print_freq": 10, "save_checkpoint_freq": 15},
    }


def test_it_learns_and_test_py_tells(options: dict[str, Any], tmp_path: Path) -> None:
    options["train"]["total_iter"] = 90
    assert run_training(options) == 0
    best = Path("experiments/stripes/models/net_g_best.safetensors")
    with safe_open(best, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["classes"] == '["across", "down"]'
    log = Path("experiments/stripes/log/train.log").read_text(encoding="utf-8")
    assert "held_out (6 pictures" in log
    assert "balanced_accuracy 1.0000" in log
    root = str(tmp_path / "data")
    told = {
        "name": "told",
        "num_gpu": 0,
        "datasets": {
            "test": {"type": "ImageFolderDataset", "dataroot": root},
            "test_2": {"type": "SingleImageDataset", "dataroot_lq": root},
        },
        "path": {"pretrain_network_g": str(best)},
        "val": {"self_ensemble": "none"},
    }
    test = load_script("test.py")
    assert test.main(["-opt", str(write_options(Path("t.yml"), told))]) == 0
    results = Path("results/told")
    made = {path.name for path in (results / "test").iterdir()}
    assert made == {"probabilities.csv", "confusion_matrix.png", "reliability.png"}
    with (results / "test_2" / "probabilities.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    right = [row["class"] in Path(row["file"]).parts for row in rows]
    assert sum(right) >= 23
    # Two copies of a network say what one says.
    both = told | {"name": "both", "ensemble": [{"checkpoint": str(best)}] * 2}
    both["path"] = {}
    assert test.main(["-opt", str(write_options(Path("t.yml"), both))]) == 0
    tables = [
        Path(f"results/{name}/test/probabilities.csv").read_text() for name in ("told", "both")
    ]
    assert tables[0] == tables[1]
    # And a folder is sorted by it.
    sort = load_script("scripts/data_preparation/sort_by_degradation.py").main
    assert sort([root, "--checkpoint", str(best), "--out", "sorted", "--table", "t.csv"]) == 0
    copies = {kind: list(Path("sorted", kind).glob("*.png")) for kind in ("across", "down")}
    assert all(11 <= len(files) <= 13 for files in copies.values())
    with Path("t.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["kind"] in Path(row["file"]).parts for row in rows) >= 23
    assert sort([root, "--checkpoint", str(best), "--doubt", "2"]) == 2
    # Nothing is sure to all digits.
    assert sort([root, "--checkpoint", str(best), "--out", "unsure", "--doubt", "1"]) == 0
    assert len(list(Path("unsure/unsure").glob("*.png"))) >= 20


def test_a_resume_is_bit_for_bit(options: dict[str, Any]) -> None:
    options["datasets"]["train"]["scales"] = [32, 48]
    options["datasets"]["train"]["lq_size"] = 48
    options["train"] |= {"total_iter": 6, "scale_consistency": {"weight": 0.2}}
    options["logger"]["save_checkpoint_freq"] = 3
    assert run_training(options) == 0
    half = options | {"name": "half"}
    assert run_training(half, "--set", "train.total_iter=3") == 0
    assert run_training(half, "--auto_resume") == 0
    files = [Path(f"experiments/{name}/models/net_g_6.safetensors") for name in ("stripes", "half")]
    ours, theirs = map(load_file, files)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_sizes_grow_to_the_card(options: dict[str, Any]) -> None:
    options["training_automations"] = {
        "enabled": True,
        "DynamicBatchAndPatchSizeOptimizer": {"pace": "at_once", "adjustment_frequency": 1},
    }
    options["train"]["total_iter"] = 40
    witness = Witness(card(Shape(40, 12)))
    assert run_training(options, memory=witness.memory, parts=[witness]) == 0
    largest = witness.reported[-1][1]
    assert largest.lq_size == 40
    assert 0.80 <= witness.memory.share(largest) <= 0.87


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["network_g.num_classes=7"], "set num_classes: 2 in network_g"),
        (["network_g={type: span_s}"], "span_s is for pictures"),
        (["model_type=SRModel", "scale=1"], "is for classes (model_type: classifier)"),
        (["train.losses=[{type: l1}]"], "l1 is for pictures"),
        (["val.metrics={psnr: {type: psnr}}"], "psnr is for pictures"),
        (["datasets.train.fit=crop", "val.lq_size=64"], "smaller than the patch of 64"),
        (["val.lq_size=16"], "at least 32"),
        (["val.compare_bicubic=true"], "no pictures to compare"),
        (["datasets.train.multi_label=true"], "use {type: bce}"),
        (["train.losses=[{type: bce, class_weights: [1.0]}]"], "there are 2 classes"),
        (["datasets.train.scales=[16, 32]"], "at least 32; not 16"),
        (["datasets.train.fit=crop", "datasets.train.lq_size=64"], "smaller than the patch of 64"),
        (["scale=2"], "works at scale 1"),
    ],
)
def test_what_does_not_fit_is_one_message(
    options: dict[str, Any], capfd: pytest.CaptureFixture[str], changes: list[str], message: str
) -> None:
    path = write_options(Path("o.yml"), options)
    sets = [part for change in changes for part in ("--set", change)]
    assert train.main(["-opt", str(path), "--check", *sets]) == 2
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error
