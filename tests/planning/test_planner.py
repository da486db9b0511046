"""The planner: what a run takes and what fits on which card, without taking it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker

from tests.support import load_script, make_pairs, small_options, write_options
from traiNNer.archs import build_network
from traiNNer.data import Batch
from traiNNer.models import SRModel
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning import step_memory
from traiNNer.planning.planner import (
    ASSUMED_LARGEST_LQ,
    AUTOMATION,
    Images,
    MemoryPlan,
    find_images,
    plan_card,
    plan_memory,
    straight_line,
)
from traiNNer.planning.step_memory import StepTracker, planned_runtime
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.shape import Shape

GIB = 2**30
SHAPE = Shape(32, 4)
COMPACT = {"type": "compact", "num_feat": 32, "num_conv": 2}


def make_options(**changes: Any) -> TrainingOptions:
    train = {"optim_g": {"type": "adamw"}, **changes.pop("train", {})}
    raw = small_options(Path("nowhere"), **{"network_g": COMPACT} | changes)
    raw["train"] |= train
    raw["datasets"]["train"] |= changes.get("section", {})
    raw.pop("section", None)
    return TrainingOptions.model_validate_json(json.dumps(raw))


def automation(**parameters: Any) -> dict[str, Any]:
    return {"enabled": True, AUTOMATION: parameters}


@pytest.fixture(scope="module")
def plan() -> MemoryPlan:
    return plan_memory(make_options(), Images(256))


# -- a step ----------------------------------------------------------------------------------------


def batch(shape: Shape, scale: int) -> Batch:
    lq = torch.zeros(shape.batch_size, 3, shape.lq_size, shape.lq_size, dtype=torch.uint8)
    gt = lq.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    return Batch(lq, gt, [0] * shape.batch_size, ["a"] * shape.batch_size, ["b"] * shape.batch_size)


def small_network() -> nn.Module:
    return build_network("compact", scale=2, num_feat=32, num_conv=2)


@pytest.mark.parametrize(
    "changes", [{}, {"use_channels_last": True}, {"train": {"losses": [{"type": "ms_ssim"}]}}]
)
def test_a_fake_step_takes_what_a_real_one_takes(changes: dict[str, Any]) -> None:
    options = make_options(**changes)
    real = SRModel(options, planned_runtime(options), small_network())
    samples = batch(SHAPE, 2)
    real.step([samples])
    tally = step_memory._Tally(step_memory._tensors(real))
    with tally:
        real.step([samples])
    assert StepTracker(options).track(SHAPE).peak == pytest.approx(tally.peak, rel=0.005)


def test_the_tally_follows_storages_not_tensors() -> None:
    present = torch.zeros(256)  # 1,024 bytes
    tally = step_memory._Tally([present])
    with tally:
        large = torch.zeros(1024)
        view = large[:10].view(2, 5)
        del large
        assert tally.current == tally.peak == 1024 + 4096
        del view
        assert tally.current == 1024
        few = torch.zeros(3)  # a block of 512
    assert (tally.current, tally.peak, few.numel()) == (1024 + 512, 1024 + 4096, 3)


def test_the_tally_agrees_with_the_tracker_of_torch() -> None:
    options = make_options(train={"ema_decay": 0})
    model = SRModel(options, planned_runtime(options), network := small_network())
    samples = batch(SHAPE, 2)
    model.step([samples])
    tracker = MemTracker()
    tracker.track_external(network, model.phases[0].optimizer)
    with tracker:
        model.step([samples])
    peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert StepTracker(options).track(SHAPE).peak == pytest.approx(peak, rel=0.01)


def test_fixed_bytes_are_those_of_the_tensors() -> None:
    fixed = StepTracker(make_options()).fixed
    weights = sum(p.nbytes for p in small_network().parameters())
    assert fixed.weights == fixed.gradients == weights
    assert fixed.optimizer_state == pytest.approx(2 * weights, rel=0.01)
    assert fixed.moving_average == weights
    assert (
        fixed.total
        == fixed.weights
        + fixed.gradients
        + fixed.optimizer_state
        + fixed.moving_average
        + fixed.buffers
    )


def test_frozen_weights_have_no_gradients() -> None:
    fixed = StepTracker(make_options(network_g={"type": "span_s"})).fixed
    network = build_network("span_s", scale=2)
    assert fixed.gradients == sum(p.nbytes for p in network.parameters() if p.requires_grad)
    assert fixed.weights == sum(p.nbytes for p in network.parameters()) > fixed.gradients


@pytest.mark.parametrize(
    ("optimizer", "copies"),
    [
        ({"type": "SGD", "lr": 0.1}, 0),
        ({"type": "SGD", "lr": 0.1, "momentum": 0.9}, 1),
        ({"type": "AdamW", "amsgrad": True}, 3),
        ({"type": "Adagrad"}, 1),
        ({"type": "NAdam"}, 2),
        ({"type": "ASGD"}, 1),
    ],
)
def test_state_of_optimizers(optimizer: dict[str, Any], copies: int) -> None:
    fixed = StepTracker(make_options(train={"optim_g": optimizer})).fixed
    assert fixed.optimizer_state == pytest.approx(copies * fixed.weights, rel=0.02)


def test_an_optimizer_that_reads_its_own_numbers_is_planned() -> None:
    fixed = StepTracker(make_options(train={"optim_g": {"type": "Adafactor"}})).fixed
    assert 0 < fixed.optimizer_state < fixed.weights


def test_without_moving_average_its_bytes_are_missing() -> None:
    with_it = StepTracker(make_options())
    without = StepTracker(make_options(train={"ema_decay": 0}))
    assert without.fixed.moving_average == 0
    difference = with_it.track(SHAPE).peak - without.track(SHAPE).peak
    assert difference == pytest.approx(with_it.fixed.moving_average, rel=0.05)


@pytest.mark.parametrize("bf16", [True, False])
def test_mixed_precision_lowers_activations(bf16: bool) -> None:
    full = StepTracker(make_options())
    mixed = StepTracker(make_options(use_amp=True, amp_bf16=bf16))
    shape = Shape(64, 8)
    ratio = (mixed.track(shape).peak - mixed.fixed.total) / (
        full.track(shape).peak - full.fixed.total
    )
    assert 0.4 < ratio < 0.75


def test_autocast_keeps_in_float32_what_cuda_keeps() -> None:
    values = torch.ones(2, 4, dtype=torch.bfloat16)
    norm = nn.LayerNorm(4)
    with torch.autocast("cpu", torch.bfloat16), step_memory._CudaAutocast():
        assert (
            nn.Softmax(-1)(values).dtype is norm(values).dtype is (values**2).dtype is torch.float32
        )
        assert nn.Linear(4, 4)(values.float()).dtype is torch.bfloat16
    with step_memory._CudaAutocast():
        assert values.softmax(-1).dtype is torch.bfloat16


def test_accumulation_keeps_gradients_but_one_batch_at_a_time() -> None:
    options = [make_options(section={"accum_iter": count}) for count in (1, 2, 4)]
    one, two, four = (StepTracker(each).track(Shape(64, 2)).peak for each in options)
    assert two > one
    assert four == two


def test_a_shape_that_no_machine_holds_takes_no_memory(plan: MemoryPlan) -> None:
    resource = pytest.importorskip("resource", reason="Windows has none")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert plan.tracker.track(Shape(1024, 512)).peak > 500 * GIB
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    )  # KiB on Linux, bytes on macOS


def test_planning_changes_no_random_numbers() -> None:
    before = torch.get_rng_state()
    StepTracker(make_options()).track(SHAPE)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_needs_values_is_refused_in_words() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)[x > 0].sum()

    class SparseRecipe(SRModel):
        @classmethod
        def build_network(cls, options: TrainingOptions) -> nn.Module:
            return Sparse()

    with pytest.raises(OptionsError, match="the memory of network 'compact' cannot be planned"):
        StepTracker(make_options(), SparseRecipe).track(SHAPE)


@pytest.mark.parametrize(
    "network",
    [
        {"type": "swinir_s", "depths": [2], "num_heads": [6]},
        {"type": "dat_light", "depth": [2], "num_heads": [2]},
        {"type": "hat_s", "depths": [1], "num_heads": [6]},
        {"type": "realplksr_s", "n_blocks": 2},
        {"type": "ditn_tiny"},
        {"type": "realcugan"},
    ],
    ids=lambda network: network["type"],
)
def test_kinds_of_networks_are_planned(network: dict[str, Any]) -> None:
    tracker = StepTracker(make_options(network_g=network, section={"lq_size": 64}))
    assert tracker.track(Shape(128, 4)).peak > 2 * tracker.track(Shape(64, 4)).peak


# -- a plan ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [COMPACT, {"type": "span_s"}])
def test_other_shapes_are_predicted(network: dict[str, Any]) -> None:
    plan = plan_memory(make_options(network_g=network), Images(256))
    persistent, per_pixel = straight_line(plan)
    for shape in (Shape(48, 6), Shape(128, 16), Shape(256, 32)):
        assert shape not in plan.steps
        peak = plan.tracker.track(shape).peak
        assert plan.model.predict(shape).bytes == pytest.approx(peak, rel=0.03)
        assert persistent + per_pixel * shape.pixels() == pytest.approx(peak, rel=0.06)


def test_larger_cards_take_more(plan: MemoryPlan) -> None:
    cards = [plan_card(plan, size * GIB) for size in (1, 2, 4, 8)]
    pixels = [card.shape.pixels() for card in cards if card.shape is not None]
    assert len(pixels) == 4
    assert all(larger > 2 * smaller for smaller, larger in itertools.pairwise(pixels))


def test_the_share_is_that_of_the_tracked_step(plan: MemoryPlan) -> None:
    card = plan_card(plan, 4 * GIB)
    assert card.shape is not None
    assert card.step == plan.tracker.track(card.shape).peak
    assert card.share == (card.context + card.step) / (4 * GIB)
    assert 0.85 - 0.45 * 0.05 <= card.share <= 0.85 + 0.13 * 0.05


@pytest.mark.parametrize(
    ("parameters", "bound"),
    [
        (
            {"max_lq_size": 32, "max_batch_size": 4},
            "lq_size 32: max_lq_size, batch 4: max_batch_size",
        ),
        ({"max_batch_size": 2}, "lq_size 48: the images, batch 2: max_batch_size"),
        ({"min_lq_size": 40}, "the memory (lq_size ends at 48: the images)"),
    ],
)
def test_bounds_are_respected_and_named(parameters: dict[str, Any], bound: str) -> None:
    plan = plan_memory(make_options(training_automations=automation(**parameters)), Images(48))
    card = plan_card(plan, GIB)
    assert card.shape is not None
    assert plan.automation().bounds.contains(card.shape)
    assert card.bound == bound


def test_the_target_of_the_options_counts_even_when_switched_off() -> None:
    off = {"enabled": False, AUTOMATION: {"target_vram_usage": 0.6}}
    plan = plan_memory(make_options(training_automations=off), Images(128))
    assert plan.target == 0.6
    assert 0.57 < plan_card(plan, 4 * GIB).share < 0.61


def test_a_card_that_is_too_small_says_what_it_takes(plan: MemoryPlan) -> None:
    small = plan_card(plan, GIB // 2)
    assert small.shape is None
    assert small.bound == "does not fit"
    assert small.needs > small.card
    enough = plan_card(plan, small.needs)
    short = plan_card(plan, int(0.99 * small.needs))
    assert enough.shape == short.shape == plan.automation().bounds.smallest
    assert enough.share < 0.86 < short.share
    assert "above the target of 85%" in short.bound


def test_images_bound_patches_where_they_are(tmp_path: Path) -> None:
    data = make_pairs(tmp_path / "data", lq_size=40)
    options = TrainingOptions.model_validate_json(json.dumps(small_options(data)))
    assert find_images(options) == Images(40)
    assert find_images(options, 96).largest_lq_size == 96


def test_missing_images_are_said_and_bounded_by_options() -> None:
    assert find_images(make_options()).largest_lq_size == ASSUMED_LARGEST_LQ
    given = find_images(make_options(training_automations=automation(max_lq_size=96)))
    assert (given.largest_lq_size, given.due_to) == (96, "max_lq_size")
    assert "not on this machine" in given.note


# -- the command -----------------------------------------------------------------------------------


def command(*arguments: str, **changes: Any) -> int:
    path = write_options(Path("o.yml"), small_options(Path("nowhere"), **changes))
    return load_script("scripts/plan_vram.py").main(["-opt", str(path), *arguments])


def test_the_command_prints_parts_and_cards(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--vram", "0.4", "1", "--set", "use_amp=true", "--largest-lq", "64") == 0
    out = capsys.readouterr().out
    assert "optimizer state (AdamW)" in out
    assert "compact, scale 2, bf16" in out
    assert "does not fit; needs a card of at least" in out
    assert "--largest-lq" in out
    assert "not on this machine" not in out


def test_the_command_says_that_images_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--vram", "1") == 0
    assert (
        "the training images are not on this machine (nowhere/gt, nowhere/lq)"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scale": 3.5}, "scale"),
        ({"network_g": {"type": "spam"}}, "did you mean span"),
        ({"training_automations": automation(min_lq_size=512)}, "min_lq_size is 512"),
    ],
)
def test_wrong_options_are_plain_messages(
    changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--vram", "8", **changes) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize("value", ["0", "-8", "nan", "eight"])
def test_a_card_without_memory_is_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("--vram", value)
    assert "--vram" in capsys.readouterr().err
