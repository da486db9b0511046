"""The law of the memory automation: what is reported is what entered the network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

import train
from tests.support import make_pairs, small_options, write_options
from traiNNer.automations import CardModel, Shape, SimulatedMemory
from traiNNer.engine import memory_fit
from traiNNer.engine.memory_fit import MemoryFit
from traiNNer.engine.trainer import Trainer

AUTOMATION = {"enabled": True, "DynamicBatchSizeOptimizer": {"enabled": True, "max_batch_size": 24}}


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    options = small_options(make_pairs(tmp_path / "data", count=6), training_automations=AUTOMATION)
    options["train"]["total_iter"] = 120
    options["val"] = {"val_enabled": False}
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 50}
    return options


def run(options: dict[str, Any], *arguments: str) -> int:
    return train.main(["-opt", str(write_options(Path("o.yml"), options)), *arguments])


class Witness:
    """Stands at the network's door: notes the shape of every tensor that enters; the simulated card judges it."""

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

    def _enter(self, _network: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        shape = Shape(arguments[0].shape[-1], arguments[0].shape[0])
        self.entered.append(shape)
        self.memory.step(shape)


def train_network() -> Any:
    from traiNNer.archs import build_network

    return build_network


def card(largest: Shape, **settings: Any) -> CardModel:
    """A card that is 85 % full at about `largest`."""
    persistent, per_pixel = 2e8, 1e5
    total = int((persistent + per_pixel * largest.pixels()) / 0.85)
    return CardModel(total=total, persistent=persistent, bytes_per_pixel=per_pixel, **settings)


@pytest.mark.parametrize("workers", [0, 2])
def test_reports_agree_with_what_entered_the_network(
    options: dict[str, Any], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options["datasets"]["train"]["num_worker_per_gpu"] = workers
    witness = Witness(monkeypatch, card(Shape(48, 12)))
    assert run(options) == 0
    assert all(entered == reported for entered, reported in witness.reported)
    events = EventAccumulator("tb_logger/small", size_guidance={"scalars": 0}).Reload()
    for tag, field in (("dynamic/lq_size", "lq_size"), ("dynamic/batch_size", "batch_size")):
        curve = [int(point.value) for point in events.Scalars(tag)]
        assert curve == [getattr(entered, field) for entered, _ in witness.reported]
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


def test_a_resumed_run_starts_at_the_proven_shape(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
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
    options["training_automations"]["DynamicBatchSizeOptimizer"] |= {"max_batch_size": 3, "max_lq_size": 24}
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
        ({"DynamicBatchSizeOptimizer": {}, "DynamicBatchAndPatchSizeOptimizer": {}}, r"another name of DynamicBatch"),
        ({"DynamicBatchSizeOptimizer": {"min_batch_size": 9, "max_batch_size": 3}}, r"max_batch_size is 3, below"),
        ({"DynamicBatchSizeOptimizer": {"min_lq_size": 480, "max_lq_size": 640}}, r"the images"),
    ],
)
def test_wrong_options_are_said(
    options: dict[str, Any], settings: dict[str, Any], message: str, capfd: pytest.CaptureFixture[str]
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
