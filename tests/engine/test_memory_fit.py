"""The law of the memory automation: what is reported is what entered the network."""

from __future__ import annotations

import copy
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.engine.witness import Witness, card, curves
from tests.support import make_pairs, small_options
from tests.support import run_training as run
from traiNNer.automations import (
    Automation,
    AutomationContext,
    Automations,
    CardModel,
    Decision,
    ShapeBounds,
    SimulatedMemory,
    StepReport,
)
from traiNNer.data.order import ShuffledOrder
from traiNNer.engine.memory_fit import MemoryFit
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run
from traiNNer.models import Chunk, Losses, Objective, StepResult
from traiNNer.utils.shape import Shape

AUTOMATION = {
    "enabled": True,
    "DynamicBatchSizeOptimizer": {"pace": "at_once", "max_batch_size": 24},
}


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    options = small_options(
        make_pairs(tmp_path / "data", count=6), training_automations=copy.deepcopy(AUTOMATION)
    )
    options["train"]["total_iter"] = 120
    options["val"] = {"val_enabled": False}
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 50}
    return options


def watched(options: dict[str, Any], witness: Witness, *arguments: str) -> int:
    return run(options, *arguments, memory=witness.memory, parts=[witness])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(
    ("workers", "scale"), [(0, 2), pytest.param(2, 2, marks=pytest.mark.slow), (4, 4)]
)
def test_reports_agree_with_what_entered_the_network(
    options: dict[str, Any], workers: int, scale: int, tmp_path: Path
) -> None:
    if scale != 2:
        data = make_pairs(tmp_path / "large", count=6, scale=scale)
        kept = {key: options[key] for key in ("train", "val", "logger")}
        options = small_options(data, scale=scale) | kept
        options["training_automations"] = copy.deepcopy(AUTOMATION)
    options["datasets"]["train"]["num_worker_per_gpu"] = workers
    witness = Witness(card(Shape(48, 12)))
    assert watched(options, witness) == 0
    assert all(entered == reported for entered, reported in witness.reported)
    sides, batches, samples = curves(
        "dynamic/lq_size", "dynamic/batch_size", "dynamic/samples_per_iteration"
    )
    assert sides == [entered.lq_size for entered, _ in witness.reported]
    assert batches == samples == [entered.batch_size for entered, _ in witness.reported]
    last = witness.entered[-1]
    assert last.lq_size >= 40, "the patch grows before the batch, up to what the images allow"
    assert 0.82 <= witness.memory.share(last) <= 0.87
    assert witness.entered[0] < last
    assert len(witness.worker_pids) == 1, "no worker was restarted"
    assert Path("experiments/small/memory.png").read_bytes().startswith(b"\x89PNG")
    log = Path("experiments/small/log/train.log").read_text()
    assert f"lq_size {last.lq_size}  batch {last.batch_size}  memory " in log
    # On a console time takes 9 columns of 120.
    said = [line.partition(" INFO: ")[2] or line for line in log.splitlines()]
    assert [line for line in said if len(line) > 111 and str(Path.cwd()) not in line] == []


class UsedSamples(Part):
    """Notes the indices that the losses saw in attempts that went through, in order."""

    name = "used samples"

    def __init__(self) -> None:
        self.indices: list[int] = []
        self._attempt: list[int] = []

    def start(self, run: Run) -> None:
        phase = run.recipe.phases[0]
        objective = phase.objectives[0]

        def noted(chunk: Chunk) -> Losses:
            if chunk.first == 0:
                self._attempt.clear()
            self._attempt += chunk.batch.indices
            return objective.losses(chunk)

        phase.objectives = (Objective(noted),)

    def after_step(self, run: Run, result: StepResult) -> None:
        self.indices += self._attempt
        self._attempt.clear()


class Crowd(Part):
    """Other programs take 40 % of the card after iteration 80."""

    name = "crowd"
    held = 0

    def after_step(self, run: Run, result: StepResult) -> None:
        if result.iteration == 80 and run.memory is not None:
            self.held = int(0.4 * run.memory.total)


def test_an_out_of_memory_shrinks_the_shape_and_loses_no_sample(options: dict[str, Any]) -> None:
    crowd = Crowd()
    used = UsedSamples()
    witness = Witness(card(Shape(48, 12), outside=lambda step: crowd.held))
    assert run(options, memory=witness.memory, parts=[witness, crowd, used]) == 0
    log = Path("experiments/small/log/train.log").read_text()
    assert "out of memory in the generator" in log
    assert witness.entered[-1].pixels() < max(shape.pixels() for shape in witness.entered)
    whole = len(used.indices) // 6 * 6
    for epoch in range(0, whole, 6):
        assert sorted(used.indices[epoch : epoch + 6]) == list(range(6))


class RandomShapes(Automation):
    """Another shape after every step."""

    def __init__(self, seed: int) -> None:
        super().__init__(AutomationContext(ShapeBounds(8, 48), Shape(16, 2), 2**30))
        self.random = random.Random(seed)
        self.decided = 0

    def after_step(self, report: StepReport) -> Decision:
        self.decided += 1
        shape = Shape(self.random.choice([8, 12, 16, 20, 24]), self.random.randint(1, 7))
        return Decision(shape, "for the test", 0.5)

    def after_out_of_memory(self, shape: Shape, fitted: Shape) -> Decision:
        return Decision(Shape(8, max(1, shape.batch_size // 2)), "for the test", 0.5)


class RandomFailures(Part):
    """One in twenty attempts on more than one sample runs out of memory, after the work."""

    name = "random failures"

    def __init__(self) -> None:
        self.count = 0
        self._random = random.Random(1)

    def start(self, run: Run) -> None:
        phase = run.recipe.phases[0]
        objective = phase.objectives[0]

        def fail_sometimes(chunk: Chunk) -> Losses:
            losses = objective.losses(chunk)
            if len(chunk.batch) > 1 and self._random.random() < 0.05:
                self.count += 1
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return losses

        phase.objectives = (Objective(fail_sometimes),)


def test_the_samples_are_the_permutations_through_a_thousand_resizes_failures_and_a_resume(
    options: dict[str, Any],
) -> None:
    """All samples that a step was made of, in order, over both runs."""
    del options["training_automations"]
    options["network_g"]["num_conv"] = 1
    options["datasets"]["train"]["num_worker_per_gpu"] = 2
    options["logger"] = {
        "print_freq": 500,
        "save_checkpoint_freq": 500,
        "use_tb_logger": False,
    }
    options["train"]["total_iter"] = 520
    used = UsedSamples()
    failures = RandomFailures()
    automations = [RandomShapes(0), RandomShapes(1)]
    for automation, arguments in zip(
        automations, [(), ("--auto_resume", "--set", "train.total_iter=1040")], strict=True
    ):
        fit = MemoryFit(
            Automations({"random shapes": automation}), SimulatedMemory(card(Shape(48, 12)))
        )
        assert run(options, *arguments, parts=[fit, used, failures]) == 0
    assert sum(automation.decided for automation in automations) + failures.count > 1000
    assert failures.count > 20
    order = ShuffledOrder(6, seed=0)
    assert used.indices == [order.visit(place).index for place in range(len(used.indices))]


def test_a_measured_pace_looks_at_the_noise_and_fills_the_card_at_the_end(
    options: dict[str, Any],
) -> None:
    options["training_automations"]["DynamicBatchSizeOptimizer"] |= {"pace": "measured"}
    options["train"]["total_iter"] = 240
    used = UsedSamples()
    witness = Witness(card(Shape(48, 12)))
    assert run(options, memory=witness.memory, parts=[witness, used]) == 0
    # The last iteration is a look: its batch entered in two halves, and so it is reported.
    last, look, _ = witness.entered[-3:]
    assert 0.82 <= witness.memory.share(last) <= 0.87
    assert look == Shape(last.lq_size, last.batch_size // 2)
    # Of two uneven halves the larger one is reported, and the other one entered last.
    for entered, reported in witness.reported:
        assert reported.batch_size - entered.batch_size in (0, 1)
        assert reported.lq_size == entered.lq_size
    noise, worth = curves("goodput/noise_scale", "goodput/worth")
    assert len(noise) > 80
    assert all(value >= 0 for value in noise)
    assert max(noise) > 0
    assert all(0 <= value <= 1 for value in worth)
    order = ShuffledOrder(6, seed=0)
    assert used.indices == [order.visit(place).index for place in range(len(used.indices))]
    log = Path("experiments/small/log/train.log").read_text()
    assert "growing by what larger steps are worth, to fill the memory from 90%" in log
    # Steps keep two halves to look at.
    assert re.search(r"-> lq_size \d+, batch 1:", log) is None
    assert run(options, "--check", memory=witness.memory) == 0
    options["datasets"]["train"]["accum_iter"] = 2
    options["train"]["total_iter"] = 3
    assert run(options | {"name": "parts"}, memory=Witness(card(Shape(48, 12))).memory) == 0
    log = Path("experiments/parts/log/train.log").read_text()
    assert "pace: measured needs steps of one batch that has two halves; ramp in its place" in log


def test_a_resumed_run_on_a_smaller_card_looks_for_its_shape_anew(options: dict[str, Any]) -> None:
    first = Witness(card(Shape(48, 12)))
    assert watched(options, first) == 0
    second = Witness(card(Shape(48, 4)))
    assert watched(options, second, "--auto_resume", "--set", "train.total_iter=180") == 0
    assert second.entered[0] < first.entered[-1]
    assert 0.8 <= second.memory.share(second.entered[-1]) <= 0.88
    assert "the checkpoint had lq_size" in Path("experiments/small/log/train.log").read_text()
    assert "out of memory" not in Path("experiments/small/log/train.log").read_text()


class ScarceValidation(Witness):
    """Runs out of memory on whole images of more than 32 pixels, when it is not trained."""

    def __init__(self, card: CardModel) -> None:
        super().__init__(card)
        self.judged: list[int] = []

    def enter(self, network: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        super().enter(network, arguments)
        if not network.training:
            self.judged.append(arguments[0].shape[-1])
            if self.judged[-1] > 32:
                raise torch.OutOfMemoryError("CUDA out of memory.")


def test_a_validation_that_runs_out_of_memory_lowers_the_tile_only(
    options: dict[str, Any],
) -> None:
    witness = ScarceValidation(card(Shape(48, 12)))
    options["val"] = {"val_freq": 40, "save_img": True, "tile_overlap": 8}
    options["train"]["ema_decay"] = 0
    assert watched(options, witness) == 0
    assert witness.judged[:2] == [48, 32], "the whole image, then tiles"
    assert witness.judged.count(48) == 1, "whole images are not tried again"
    log = Path("experiments/small/log/train.log").read_text()
    assert "out of memory at an image of 48 LQ pixels: tiles of 32 from now on" in log
    assert "out of memory in the generator" not in log
    assert 0.82 <= witness.memory.share(witness.entered[-1]) <= 0.87
    assert len(list(Path("experiments/small/visualization").rglob("*_40.png"))) == 6


def test_nothing_smaller_is_an_error_with_figures(
    options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    witness = Witness(CardModel(total=2**30, persistent=2.0**31, bytes_per_pixel=1.0))
    assert watched(options, witness) == 1
    message = capfd.readouterr().err
    assert "one sample of 8 px LQ does not fit" in message
    assert re.search(
        r"weights take \d\.\d\d GiB, gradients .* the process holds \d+\.\d\d GiB", message
    )
    assert "use_amp: true, a smaller network" in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("rule", "said"), [("sqrt", "learning rate x"), ("none", "learning rate unchanged")]
)
def test_a_resize_says_what_it_does_to_the_learning_rate(
    options: dict[str, Any], rule: str, said: str
) -> None:
    options["train"] |= {"lr_scaling": rule, "total_iter": 60}
    witness = Witness(card(Shape(48, 12)))
    assert watched(options, witness) == 0
    log = Path("experiments/small/log/train.log").read_text()
    batch = witness.entered[-1].batch_size
    assert batch > 2
    assert f"{batch} samples an iteration, {said}" in log
    rate = 1e-3 * (batch / 2) ** 0.5 if rule == "sqrt" else 1e-3
    assert f"lr {rate:.2e}" in log.splitlines()[-4] + log.splitlines()[-3]


def test_an_effective_batch_is_kept_through_every_batch(options: dict[str, Any]) -> None:
    options["train"] |= {"effective_batch_size": 10, "total_iter": 60}
    options["datasets"]["train"]["num_worker_per_gpu"] = 2
    options["training_automations"]["DynamicBatchSizeOptimizer"] |= {"min_lq_size": 48}
    witness = Witness(card(Shape(48, 7)))
    assert watched(options, witness) == 0
    batches, samples = curves("dynamic/batch_size", "dynamic/samples_per_iteration")
    assert set(samples) == {10}
    assert 5 < batches[-1] < 10
    assert [shape.batch_size for shape in witness.entered[-2:]] == [batches[-1], 10 - batches[-1]]
    assert sum(shape.batch_size for shape in witness.entered) == 600
    assert (
        f"batch {batches[-1]:.0f} (10 accumulated)"
        in Path("experiments/small/log/train.log").read_text()
    )


def test_a_resumed_run_starts_at_the_proven_shape(options: dict[str, Any]) -> None:
    first = Witness(card(Shape(48, 12)))
    assert watched(options, first) == 0
    second = Witness(card(Shape(48, 12)))
    assert watched(options, second, "--auto_resume", "--set", "train.total_iter=130") == 0
    assert second.entered[0] == first.entered[-1]


def test_a_real_cpu_budget_is_watched(options: dict[str, Any]) -> None:
    """The process's own resident memory, on whatever machine this is."""
    options["train"]["total_iter"] = 120
    options["vram_limit_gib"] = 64.0
    options["training_automations"]["DynamicBatchSizeOptimizer"] |= {
        "max_batch_size": 3,
        "max_lq_size": 24,
    }
    assert run(options) == 0
    log = Path("experiments/small/log/train.log").read_text()
    assert "of main memory (as set) for the training process's resident memory" in log
    assert "lq_size 24  batch 3  memory " in log


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"DynamicBatchOptimizer": {}}, r"unknown key training_automations\.DynamicBatchOptimizer"),
        ({"DynamicBatchSizeOptimizer": {"target": 0.9}}, r"did you mean target_vram_usage"),
        ({"DynamicBatchSizeOptimizer": {"target_vram_usage": 1.5}}, r"expected less than 1"),
        ({"DynamicBatchSizeOptimizer": 3}, r"expected a section"),
        ({"DynamicBatchSizeOptimizer": {"pace": "mesured"}}, r"expected 'at_once', 'ramp' or"),
        ({"DynamicBatchSizeOptimizer": {"final_share": 0}}, r"expected more than 0"),
        (
            {"DynamicBatchSizeOptimizer": {}, "DynamicBatchAndPatchSizeOptimizer": {}},
            r"another name of DynamicBatch",
        ),
        (
            {"DynamicBatchSizeOptimizer": {"min_batch_size": 9, "max_batch_size": 3}},
            r"max_batch_size is 3, below",
        ),
        ({"DynamicBatchSizeOptimizer": {"min_lq_size": 480, "max_lq_size": 640}}, r"the images"),
    ],
)
def test_wrong_options_are_said(
    options: dict[str, Any],
    settings: dict[str, Any],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    options["training_automations"] = {"enabled": True, **settings}
    assert run(options) == 2
    told = capfd.readouterr().err
    assert re.search(message, told), told
    assert "Traceback" not in told


def test_a_budget_below_what_the_process_holds_is_an_error(
    options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    options["vram_limit_gib"] = 0.01
    assert run(options) == 2
    assert "the memory budget of 0.01 GiB is below the" in capfd.readouterr().err
