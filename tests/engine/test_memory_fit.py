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

import train
from tests.support import make_pairs, small_options, write_options
from traiNNer.automations import Automation, CardModel, Decision, Shape, SimulatedMemory, StepReport
from traiNNer.data import RequestSampler
from traiNNer.engine import memory_fit
from traiNNer.engine.memory_fit import MemoryFit
from traiNNer.engine.trainer import Trainer

AUTOMATION = {"enabled": True, "DynamicBatchSizeOptimizer": {"enabled": True, "max_batch_size": 24}}


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    options = small_options(
        make_pairs(tmp_path / "data", count=6), training_automations=copy.deepcopy(AUTOMATION)
    )
    options["train"]["total_iter"] = 120
    options["val"] = {"val_enabled": False}
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 50}
    return options


def run(options: dict[str, Any], *arguments: str) -> int:
    return train.main(["-opt", str(write_options(Path("o.yml"), options)), *arguments])


class Witness:
    """Stands at the network's door: notes the shape of every tensor that enters; the simulated card
    judges it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, card: CardModel) -> None:
        self.memory = SimulatedMemory(card)
        self.entered: list[Shape] = []
        self.reported: list[tuple[Shape, Shape]] = []
        self.worker_pids: set[tuple[int, ...]] = set()
        monkeypatch.setattr(memory_fit, "open_memory", lambda *_: self.memory)
        built = train_network()

        def build(*arguments: Any, **parameters: Any) -> nn.Module:
            network = built(*arguments, **parameters)
            network.register_forward_pre_hook(self._enter)
            return network

        monkeypatch.setattr("traiNNer.archs.build_network", build)
        after = MemoryFit.after_step

        def after_step(fit: MemoryFit, step: Any) -> None:
            model = fit.model
            self.reported.append((self.entered[-1], Shape(model.received[-1], model.received[0])))
            loader = model._dataloader
            assert loader is not None
            self.worker_pids.add(loader.worker_pids)
            after(fit, step)

        monkeypatch.setattr(MemoryFit, "after_step", after_step)

    def _enter(self, network: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if (
            not network.training
        ):  # a look at how large the network's tensors are, before the first step
            return
        shape = Shape(arguments[0].shape[-1], arguments[0].shape[0])
        self.entered.append(shape)
        self.memory.step(shape)


def train_network() -> Any:
    from traiNNer.archs import build_network

    return build_network


def card(largest: Shape, frames: int = 1, **settings: Any) -> CardModel:
    """A card that is 85 % full at about `largest`."""
    persistent = 2e8
    per_pixel = 1e5
    total = int((persistent + per_pixel * largest.pixels(frames)) / 0.85)
    return CardModel(total, persistent, per_pixel, frames=frames, **settings)


def curves(*tags: str, run: str = "small") -> list[list[int]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(f"tb_logger/{run}", size_guidance={"scalars": 0}).Reload()
    return [[int(point.value) for point in events.Scalars(tag)] for tag in tags]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("workers", "scale"), [(0, 2), (2, 2), (4, 4)])
def test_reports_agree_with_what_entered_the_network(
    options: dict[str, Any],
    workers: int,
    scale: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if scale != 2:
        data = make_pairs(tmp_path / "large", count=6, scale=scale)
        options = small_options(data, scale=scale) | {
            key: options[key] for key in ("train", "val", "logger")
        }
        options["training_automations"] = copy.deepcopy(AUTOMATION)
    options["datasets"]["train"]["num_worker_per_gpu"] = workers
    witness = Witness(monkeypatch, card(Shape(48, 12)))
    assert run(options) == 0
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
    assert Path("experiments/small/vram.png").read_bytes().startswith(b"\x89PNG")
    log = Path("experiments/small/log/train.log").read_text()
    assert f"lq_size {last.lq_size}  batch {last.batch_size}  VRAM " in log


def test_an_out_of_memory_shrinks_the_shape_and_loses_no_sample(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    step = Trainer._read

    def read(self: Trainer, *arguments: Any) -> Any:
        batches = step(self, *arguments)
        seen.extend(index for batch in batches for index in batch.indices)
        return batches

    monkeypatch.setattr(Trainer, "_read", read)
    outside = {"bytes": 0}
    witness = Witness(monkeypatch, card(Shape(48, 12), outside=lambda step: outside["bytes"]))
    grown = MemoryFit.after_step

    def others_take_memory(fit: MemoryFit, batches: Any) -> None:
        grown(fit, batches)
        if fit.model.iteration == 80:
            outside["bytes"] = int(0.4 * witness.memory.total)

    monkeypatch.setattr(MemoryFit, "after_step", others_take_memory)
    assert run(options) == 0
    log = Path("experiments/small/log/train.log").read_text()
    assert "out of memory in the generator" in log
    assert witness.entered[-1].pixels() < max(shape.pixels() for shape in witness.entered)
    whole = len(seen) // 6 * 6
    for epoch in range(0, whole, 6):
        assert sorted(seen[epoch : epoch + 6]) == list(range(6))


class RandomShapes(Automation):
    """Another shape after every step."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.decided = 0

    def after_step(self, report: StepReport) -> Decision:
        self.decided += 1
        shape = Shape(self.random.choice([8, 12, 16, 20, 24]), self.random.randint(1, 7))
        return Decision(shape, "for the test", 0.5)

    def after_out_of_memory(self, shape: Shape, fitted: Shape) -> Decision:
        return Decision(Shape(8, max(1, shape.batch_size // 2)), "for the test", 0.5)


def test_the_samples_are_the_permutations_through_a_thousand_resizes_failures_and_a_resume(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every sample that a step was made of, in order, over both runs."""
    from traiNNer.models import SRModel

    used: list[int] = []
    failures = random.Random(1)
    trained = SRModel.train_step
    losses = SRModel._generator_losses
    failed = 0

    def train_step(model: SRModel, batches: Any) -> None:
        trained(model, batches)
        used.extend(index for batch in batches for index in batch.indices)

    def generator_losses(model: SRModel, batch: Any) -> Any:
        nonlocal failed
        if len(batch) > 1 and failures.random() < 0.05:
            failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return losses(model, batch)

    monkeypatch.setattr(SRModel, "train_step", train_step)
    monkeypatch.setattr(SRModel, "_generator_losses", generator_losses)
    automations: list[RandomShapes] = []

    def build(_options: Any, model: SRModel, _dataset: Any) -> MemoryFit:
        automations.append(RandomShapes(len(automations)))
        return MemoryFit(automations[-1], SimulatedMemory(card(Shape(48, 12))), model)

    monkeypatch.setattr(memory_fit, "build_memory_fit", build)
    options["network_g"]["num_conv"] = 1
    options["datasets"]["train"]["num_worker_per_gpu"] = 2
    options["logger"] = {"print_freq": 500, "save_checkpoint_freq": 500, "use_tb_logger": False}
    options["train"]["total_iter"] = 520
    assert run(options) == 0
    assert run(options, "--auto_resume", "--set", "train.total_iter=1040") == 0
    assert sum(automation.decided for automation in automations) + failed > 1000
    assert failed > 20
    permutations = RequestSampler(6, batch_size=1, lq_size=8, seed=0)
    assert used == [permutations.request(position).index for position in range(len(used))]


def test_a_resumed_run_on_a_smaller_card_looks_for_its_shape_anew(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        first = Witness(context, card(Shape(48, 12)))
        assert run(options) == 0
    second = Witness(monkeypatch, card(Shape(48, 4)))
    assert run(options, "--auto_resume", "--set", "train.total_iter=180") == 0
    assert second.entered[0] < first.entered[-1]
    assert 0.8 <= second.memory.share(second.entered[-1]) <= 0.88
    assert "the checkpoint had lq_size" in Path("experiments/small/log/train.log").read_text()
    assert "out of memory" not in Path("experiments/small/log/train.log").read_text()


def test_a_validation_that_runs_out_of_memory_lowers_the_tile_only(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    witness = Witness(monkeypatch, card(Shape(48, 12)))
    judged: list[int] = []
    enter = Witness._enter

    def enter_or_fail(self: Witness, network: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if network.training:
            enter(self, network, arguments)
            return
        judged.append(arguments[0].shape[-1])
        if judged[-1] > 32:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Witness, "_enter", enter_or_fail)
    options["val"] = {"val_freq": 40, "save_img": True, "tile_overlap": 8}
    options["train"]["ema_decay"] = 0
    assert run(options) == 0
    assert judged[:3] == [16, 48, 32], "the look before the first step, the whole image, then tiles"
    assert judged.count(48) == 1, "whole images are not tried again"
    log = Path("experiments/small/log/train.log").read_text()
    assert "out of memory at an image of 48 LQ pixels: tiles of 32 from now on" in log
    assert "out of memory in the generator" not in log
    assert 0.82 <= witness.memory.share(witness.entered[-1]) <= 0.87
    assert len(list(Path("experiments/small/visualization").rglob("*_40.png"))) == 6


def test_nothing_smaller_is_an_error_with_figures(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Witness(monkeypatch, CardModel(total=2**30, persistent=2.0**31, bytes_per_pixel=1.0))
    assert run(options) == 1
    told = capfd.readouterr().err
    assert "one sample of 8 px LQ does not fit" in told
    assert re.search(
        r"weights take \d\.\d\d GiB, gradients .* the process holds \d+\.\d\d GiB", told
    )
    assert "use_amp: true, a smaller network" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("rule", "said"), [("sqrt", "learning rate x"), ("none", "learning rate unchanged")]
)
def test_a_resize_says_what_it_does_to_the_learning_rate(
    options: dict[str, Any], rule: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options["train"] |= {"lr_scaling": rule, "total_iter": 60}
    witness = Witness(monkeypatch, card(Shape(48, 12)))
    assert run(options) == 0
    log = Path("experiments/small/log/train.log").read_text()
    batch = witness.entered[-1].batch_size
    assert batch > 2
    assert f"{batch} samples an iteration, {said}" in log
    rate = 1e-3 * (batch / 2) ** 0.5 if rule == "sqrt" else 1e-3
    assert f"lr {rate:.2e}" in log.splitlines()[-4] + log.splitlines()[-3]


def test_an_effective_batch_is_kept_through_every_batch(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    options["train"] |= {"effective_batch_size": 10, "total_iter": 60}
    options["datasets"]["train"]["num_worker_per_gpu"] = 2
    options["training_automations"]["DynamicBatchSizeOptimizer"] |= {"min_lq_size": 48}
    witness = Witness(monkeypatch, card(Shape(48, 7)))
    assert run(options) == 0
    batches, samples = curves("dynamic/batch_size", "dynamic/samples_per_iteration")
    assert set(samples) == {10}
    assert 5 < batches[-1] < 10
    assert [shape.batch_size for shape in witness.entered[-2:]] == [batches[-1], 10 - batches[-1]]
    assert sum(shape.batch_size for shape in witness.entered) == 600
    assert (
        f"batch {batches[-1]} (10 accumulated)"
        in Path("experiments/small/log/train.log").read_text()
    )


def test_a_resumed_run_starts_at_the_proven_shape(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        first = Witness(context, card(Shape(48, 12)))
        assert run(options) == 0
    second = Witness(monkeypatch, card(Shape(48, 12)))
    assert run(options, "--auto_resume", "--set", "train.total_iter=130") == 0
    assert second.entered[0] == first.entered[-1]


def test_a_real_cpu_budget_is_watched(options: dict[str, Any]) -> None:
    """The process's own resident memory, on whatever machine this is."""
    options["train"]["total_iter"] = 40
    options["vram_limit_gib"] = 64.0
    options["training_automations"]["DynamicBatchSizeOptimizer"] |= {
        "max_batch_size": 3,
        "max_lq_size": 24,
    }
    assert run(options) == 0
    log = Path("experiments/small/log/train.log").read_text()
    assert "of main memory (as set) for the training process's resident memory" in log
    assert "lq_size 24  batch 3  VRAM " in log


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"DynamicBatchOptimizer": {}}, r"unknown key training_automations\.DynamicBatchOptimizer"),
        ({"DynamicBatchSizeOptimizer": {"target": 0.9}}, r"did you mean target_vram_usage"),
        ({"DynamicBatchSizeOptimizer": {"target_vram_usage": 1.5}}, r"expected less than 1"),
        ({"DynamicBatchSizeOptimizer": 3}, r"expected a section"),
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
