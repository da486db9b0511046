"""Runs at several sizes of each patch, through the whole program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.test_recipes import Stop
from tests.engine.witness import Witness, card
from tests.support import make_pairs, run_training, small_options
from traiNNer.automations import CardModel, SimulatedMemory
from traiNNer.utils.shape import Shape


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    options = small_options(make_pairs(tmp_path / "data", count=6))
    options["datasets"]["train"] |= {"scales": [16, 8, 12], "num_worker_per_gpu": 1}
    options["train"]["scale_consistency"] = {"weight": 0.2}
    options["val"] = {"val_enabled": False}
    return options


def test_a_step_takes_all_sizes_and_a_resume_is_bit_for_bit(options: dict[str, Any]) -> None:
    options["train"]["scale_consistency"]["recompute"] = True
    witness = Witness(card(Shape(64, 16)))
    assert run_training(options, parts=[witness]) == 0
    # The largest once, and the others twice, of which the first time makes no graph.
    once = [Shape(side, 2) for side in (16, 12, 8, 12, 8)]
    assert witness.entered == once * 6
    assert {reported for _, reported in witness.reported} == {Shape(16, 2)}
    half = options | {"name": "half"}
    assert run_training(half, "--set", "train.total_iter=3") == 0
    assert run_training(half, "--auto_resume") == 0
    files = [Path(f"experiments/{name}/models/net_g_6.safetensors") for name in ("small", "half")]
    ours, theirs = map(load_file, files)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    log = Path("experiments/small/log/train.log").read_text(encoding="utf-8")
    assert "scale_consistency" in log


@pytest.mark.parametrize(
    ("total", "sides", "words"),
    [
        (8e9, (16, 12, 8), "sizes that go through the network once: 16 px, 12 px, 8 px"),
        (1e5, (16, 12, 8, 12, 8), "once: 16 px; 12 px, 8 px twice, for which the memory does"),
    ],
)
def test_sizes_run_once_where_the_memory_does(
    options: dict[str, Any],
    total: float,
    sides: tuple[int, ...],
    words: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    witness = Witness(card(Shape(64, 16)))
    options["train"]["total_iter"] = 1
    memory = SimulatedMemory(CardModel(int(total), 0, 0))
    assert run_training(options, memory=memory, parts=[witness]) == 0
    assert witness.entered == [Shape(side, 2) for side in sides]
    assert words in capfd.readouterr().err


def test_sizes_of_the_readers_train_the_same(options: dict[str, Any]) -> None:
    assert run_training(options) == 0
    sent = options | {"name": "sent"}
    sent["datasets"]["train"]["memory_efficient"] = False
    assert run_training(sent) == 0
    files = [Path(f"experiments/{name}/models/net_g_6.safetensors") for name in ("small", "sent")]
    ours, theirs = map(load_file, files)
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("consistency", [0, 0.2])
def test_several_sizes_fill_a_card(options: dict[str, Any], consistency: float) -> None:
    options["training_automations"] = {
        "enabled": True,
        "DynamicBatchAndPatchSizeOptimizer": {"pace": "at_once", "adjustment_frequency": 1},
    }
    options["train"] |= {"total_iter": 60, "scale_consistency": {"weight": consistency}}
    witness = Witness(card(Shape(32, 4)))
    assert run_training(options, memory=witness.memory, parts=[witness]) == 0
    largest = max(witness.entered[-5:], key=Shape.pixels)
    assert 0.82 <= witness.memory.share(largest) <= 0.87
    assert largest == witness.reported[-1][1]
    # The proportions stay while the patch grows.
    sides = sorted({shape.lq_size for shape in witness.entered[-5:]})
    assert sides == [round(largest.lq_size * share) for share in (0.5, 0.75, 1)]


# -- one size after the other ----------------------------------------------------------------------

STAGES = [{"size": 8, "until": 0.4}, {"size": 16, "until": 0.7}, {"size": 32}]


def in_stages(options: dict[str, Any], *, fitted: bool) -> dict[str, Any]:
    del options["datasets"]["train"]["scales"], options["train"]["scale_consistency"]
    # What a worker has read ahead is used up before larger patches come.
    options["datasets"]["train"]["num_worker_per_gpu"] = 0
    automations: dict[str, Any] = {"enabled": True, "ProgressiveSizes": {"stages": STAGES}}
    if fitted:
        fit = {"adjustment_frequency": 1, "max_batch_size": 1024}
        automations["DynamicBatchAndPatchSizeOptimizer"] = fit
    options["training_automations"] = automations
    return options


def test_stages_alone_keep_the_batch_and_resume_inside_a_stage(options: dict[str, Any]) -> None:
    options = in_stages(options, fitted=False)
    options["train"]["total_iter"] = 10
    witness = Witness(card(Shape(64, 16)))
    assert run_training(options, memory=witness.memory, parts=[witness]) == 0
    assert witness.entered == [Shape(8, 2)] * 4 + [Shape(16, 2)] * 3 + [Shape(32, 2)] * 3
    half = options | {"name": "half"}
    stop = Stop(5)
    assert run_training(half, memory=Witness(card(Shape(64, 16))).memory, parts=[stop]) == 130
    rest = Witness(card(Shape(64, 16)))
    assert run_training(half, "--auto_resume", memory=rest.memory, parts=[rest]) == 0
    assert rest.entered == witness.entered[5:]
    files = [Path(f"experiments/{name}/models/net_g_10.safetensors") for name in ("small", "half")]
    ours, theirs = map(load_file, files)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_the_batch_of_each_stage_fills_the_card(options: dict[str, Any]) -> None:
    options = in_stages(options, fitted=True)
    options["train"]["total_iter"] = 60
    witness = Witness(card(Shape(32, 40)))
    assert run_training(options, memory=witness.memory, parts=[witness]) == 0
    for size in (8, 16, 32):
        entered = [shape for shape in witness.entered if shape.lq_size == size]
        # Where it came to rest in the stage.
        last = max(entered[-5:], key=Shape.pixels)
        assert 0.82 <= witness.memory.share(last) <= 0.87, entered
    assert witness.entered[-1].lq_size == 32


def test_stages_beyond_the_pictures_are_refused(
    options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    options = in_stages(options, fitted=False)
    options["training_automations"]["ProgressiveSizes"] = {"stages": [{"size": 64}]}
    assert run_training(options, memory=Witness(card(Shape(64, 16))).memory) == 2
    assert "a size of 64 px is not possible" in capfd.readouterr().err


# -- a size for each batch -------------------------------------------------------------------------

SIZES = [8, 12, 16]


def at_random(options: dict[str, Any], *, fitted: bool = False) -> dict[str, Any]:
    del options["datasets"]["train"]["scales"], options["train"]["scale_consistency"]
    automations: dict[str, Any] = {"enabled": True, "RandomSizes": {"sizes": SIZES}}
    if fitted:
        fit = {"adjustment_frequency": 1, "max_batch_size": 1024}
        automations["DynamicBatchAndPatchSizeOptimizer"] = fit
    options["training_automations"] = automations
    return options


def test_each_batch_has_a_size_whatever_reads_and_after_a_resume(options: dict[str, Any]) -> None:
    options = at_random(options) | {"manual_seed": 1}
    options["train"]["total_iter"] = 12
    witness = Witness(card(Shape(64, 16)))
    assert run_training(options, memory=witness.memory, parts=[witness]) == 0
    assert set(witness.entered) == {Shape(8, 8), Shape(12, 3), Shape(16, 2)}
    assert all(entered == reported for entered, reported in witness.reported)
    half = options | {"name": "half"}
    half["datasets"]["train"]["num_worker_per_gpu"] = 0
    memory = Witness(card(Shape(64, 16))).memory
    assert run_training(half, memory=memory, parts=[Stop(5)]) == 130
    rest = Witness(card(Shape(64, 16)))
    assert run_training(half, "--auto_resume", memory=rest.memory, parts=[rest]) == 0
    assert rest.entered == witness.entered[5:]
    files = [Path(f"experiments/{name}/models/net_g_12.safetensors") for name in ("small", "half")]
    ours, theirs = map(load_file, files)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_the_batches_of_random_sizes_fill_the_card(options: dict[str, Any]) -> None:
    options = at_random(options, fitted=True)
    options["train"]["total_iter"] = 30
    witness = Witness(card(Shape(16, 40)))
    assert run_training(options, memory=witness.memory, parts=[witness]) == 0
    for size in SIZES:
        last = [shape for shape in witness.entered[-12:] if shape.lq_size == size][-1]
        assert 0.8 <= witness.memory.share(last) <= 0.87, witness.entered


def test_random_sizes_beside_other_sizes_are_refused(
    options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    options["training_automations"] = {"enabled": True, "RandomSizes": {"sizes": SIZES}}
    assert run_training(options) == 2
    assert "goes with patches of one size" in capfd.readouterr().err


# -- memory that is saved --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "total", "words"),
    [
        ("true", 8e9, "2 blocks of esrgan (RRDB) are made again"),
        ("auto", 1e6, "2 blocks of esrgan (RRDB) are made again"),
        ("auto", 8e9, ""),
    ],
)
def test_blocks_are_made_again_where_that_is_asked_for_or_needed(
    options: dict[str, Any], way: str, total: float, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    del options["datasets"]["train"]["scales"], options["train"]["scale_consistency"]
    options["network_g"] = {"type": "esrgan", "num_filters": 4, "num_blocks": 2}
    options["train"]["total_iter"] = 2
    memory = SimulatedMemory(CardModel(int(total), 0, 0))
    assert run_training(options, "--set", f"use_checkpointing={way}", memory=memory) == 0
    told = capfd.readouterr().err
    assert words in told
    assert bool(words) == ("made again" in told)
    assert run_training(options | {"name": "plain"}) == 0
    files = [Path(f"experiments/{name}/models/net_g_2.safetensors") for name in ("small", "plain")]
    ours, theirs = map(load_file, files)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
