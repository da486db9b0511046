"""Recipes of the tests' own through the whole program: two phases, and LQ that is made on the
device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn import functional

from tests.engine.witness import Witness, card
from tests.models.two_phases import TwoPhases
from tests.support import make_pairs, run_training, small_options
from traiNNer.data import Batch, PairedImageDataset, Sample, SampleRequest
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run
from traiNNer.models import Chunk, Losses, StepResult
from traiNNer.utils.registry import DATASETS, RECIPES
from traiNNer.utils.shape import Shape

Capture = pytest.CaptureFixture[str]
NETWORKS = ("net_g", "net_g_ema", "net_d")


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    """For these tests alone: the reference of the options lists what is registered."""
    DATASETS.add("GtAlone", GtAlone)
    RECIPES.add("TwoPhases", TwoPhases)
    RECIPES.add("MadeLq", MadeLq)
    yield
    DATASETS.remove("GtAlone")
    RECIPES.remove("TwoPhases")
    RECIPES.remove("MadeLq")


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    options = small_options(make_pairs(tmp_path / "data", count=6), model_type="TwoPhases")
    options["train"] |= {
        "total_iter": 12,
        "warmup_iter": 4,
        "ema_decay": 0.9,
        "scheduler": {"type": "CosineAnnealingLR"},
    }
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 6}
    return options


class Stop(Part):
    """Somebody presses Ctrl-C at an iteration."""

    name = "stop"

    def __init__(self, iteration: int) -> None:
        self._iteration = iteration

    def after_step(self, run: Run, result: StepResult) -> None:
        run.interrupts.requested |= result.iteration == self._iteration


def weights(run: str, iteration: int) -> dict[str, dict[str, torch.Tensor]]:
    models = Path("experiments") / run / "models"
    return {name: load_file(models / f"{name}_{iteration}.safetensors") for name in NETWORKS}


def assert_equal(first: str, second: str, iteration: int) -> None:
    ours, theirs = weights(first, iteration), weights(second, iteration)
    for name in NETWORKS:
        assert ours[name].keys() == theirs[name].keys()
        for key, tensor in ours[name].items():
            assert torch.equal(tensor, theirs[name][key]), (name, key)


def test_two_phases_train_are_saved_by_role_and_resume_bit_for_bit(options: dict[str, Any]) -> None:
    assert run_training(options, "--name", "whole") == 0
    models = Path("experiments/whole/models")
    saved = sorted(path.name for path in models.glob("*_12.safetensors"))
    assert saved == sorted(f"{name}_12.safetensors" for name in NETWORKS), "no frozen teacher"
    with safe_open(models / "net_d_12.safetensors", "pt") as file:
        described = file.metadata()
    assert "arch" not in described, "no section of the options describes the critic"
    assert described["iteration"] == "12"

    assert run_training(options, "--name", "parts", parts=[Stop(5)]) == 130
    torch.manual_seed(99)  # a new process starts from other random numbers
    assert run_training(options, "--name", "parts", "--auto_resume") == 0
    assert_equal("whole", "parts", 12)


def test_a_critic_that_is_lost_is_no_generator(options: dict[str, Any], capfd: Capture) -> None:
    assert run_training(options, parts=[Stop(6)]) == 130
    Path("experiments/small/models/net_d_6.safetensors").unlink()
    assert run_training(options, "--auto_resume") == 2
    assert "net_d_6.safetensors" in capfd.readouterr().err


def test_a_run_without_a_critic_cannot_go_on_with_one(
    options: dict[str, Any], capfd: Capture
) -> None:
    assert run_training(options | {"model_type": "SRModel"}, parts=[Stop(6)]) == 130
    assert run_training(options, "--auto_resume") == 2
    assert "it holds no weights of net_d, which this run trains" in capfd.readouterr().err


def test_two_phases_fill_a_card_that_is_handed_in(options: dict[str, Any]) -> None:
    options["training_automations"] = {
        "enabled": True,
        "DynamicBatchAndPatchSizeOptimizer": {"pace": "at_once", "adjustment_frequency": 1},
    }
    options["train"]["total_iter"] = 60
    options["val"] = {"val_enabled": False}
    witness = Witness(card(Shape(32, 4)))
    assert run_training(options, memory=witness.memory, parts=[witness]) == 0
    assert 0.82 <= witness.memory.share(witness.entered[-1]) <= 0.87
    assert all(entered == reported for entered, reported in witness.reported)


# -- LQ made of GT, on the device ------------------------------------------------------------------


class GtAlone(PairedImageDataset):
    """Gives crops of GT, and leaves LQ to the recipe."""

    def __getitem__(self, index: SampleRequest) -> Sample:
        sample = super().__getitem__(index)
        assert sample.lq is not None
        return replace(sample, lq=None, lq_size=sample.lq.shape[-1])


class MadeLq(TwoPhases):
    """LQ is GT made smaller, with noise from the sample's own seed.

    Attributes:
        made: for each sample that was prepared: seed, side of LQ, a fingerprint of LQ's pixels.
    """

    made: list[tuple[int, int, float]]
    limit: int | None = None

    def prepare(self, batch: Batch) -> Batch:
        prepared = super().prepare(batch)
        gt = prepared.gt
        assert gt is not None
        if prepared.lq is not None:  # what is validated has LQ of its own
            return prepared
        lq = functional.avg_pool2d(gt, batch.scale)
        noises = [
            torch.randn(one.shape, generator=torch.Generator().manual_seed(seed))
            for one, seed in zip(lq, batch.seeds, strict=True)
        ]
        lq = (lq + 0.1 * torch.stack(noises)).clamp(0, 1)
        for one, seed in zip(lq, batch.seeds, strict=True):
            self.made.append((seed, one.shape[-1], one.double().sum().item()))
        return replace(prepared, lq=lq)

    def critic_losses(self, chunk: Chunk) -> Losses:
        losses = super().critic_losses(chunk)
        if self.limit is not None and len(chunk.batch) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        return losses


class Made(Part):
    """Holds what the recipe has prepared, step by step."""

    name = "made"

    def __init__(self, limit: int | None = None) -> None:
        self.steps: list[list[tuple[int, int, float]]] = []
        self._limit = limit

    def start(self, run: Run) -> None:
        assert isinstance(run.recipe, MadeLq)
        run.recipe.made = []
        run.recipe.limit = self._limit

    def after_step(self, run: Run, result: StepResult) -> None:
        assert isinstance(run.recipe, MadeLq)
        self.steps.append(run.recipe.made)
        run.recipe.made = []


def train_alone(options: dict[str, Any], *arguments: str, parts: Sequence[Part]) -> None:
    options = options | {"model_type": "MadeLq"}
    options["datasets"]["train"] |= {"type": "GtAlone", "batch_size_per_gpu": 4}
    assert run_training(options, *arguments, parts=parts) == 0


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_phases_repeats_workers_and_a_resume_see_the_same_lq(options: dict[str, Any]) -> None:
    options["val"] = {"val_enabled": False}
    plain = Made()
    train_alone(options, "--name", "plain", parts=[plain])
    for made in plain.steps:
        generator, critic = made[:4], made[4:]
        assert generator == critic, "each phase prepares the samples anew, and alike"
        assert len({seed for seed, _, _ in generator}) == 4

    repeated = Made(limit=2)
    options["datasets"]["train"]["num_worker_per_gpu"] = 2
    train_alone(options, "--name", "repeated", parts=[repeated])
    for made, expected in zip(repeated.steps, plain.steps, strict=True):
        # The generator's, the critic's attempt that failed, its repeat in halves.
        assert made[:4] == made[4:8] == made[8:] == expected[:4]

    options["datasets"]["train"]["num_worker_per_gpu"] = 0
    options["train"]["total_iter"] = 6
    early = Made()
    train_alone(options, "--name", "resumed", parts=[early])
    options["train"]["total_iter"] = 12
    late = Made()
    train_alone(options, "--name", "resumed", "--auto_resume", parts=[late])
    assert early.steps + late.steps == plain.steps
