from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from traiNNer.archs import build_network
from traiNNer.data import Batch
from traiNNer.engine.reporter import LossMeans
from traiNNer.models import SRModel
from traiNNer.models.nonfinite import NonFiniteGuard
from traiNNer.models.phase_runner import StepContext
from traiNNer.optim import build_optimizer, build_scheduler
from traiNNer.optim.optimizers import NAMES
from traiNNer.options.length import RunLength
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import OptionsError, TrainingError
from traiNNer.utils.registry import SCHEDULERS
from traiNNer.utils.shape import Shape

CPU = torch.device("cpu")


def make_options(
    data: dict[str, Any] | None = None, network: dict[str, Any] | None = None, **train: Any
) -> TrainingOptions:
    section = {"type": "PairedImageDataset", "dataroot_gt": "x", "dataroot_lq": "x"}
    section |= data or {}
    return TrainingOptions.model_validate(
        {
            "name": "t",
            "scale": 2,
            "datasets": {"train": section},
            "network_g": network or {"type": "compact", "num_feat": 8, "num_conv": 1},
            "train": {
                "total_iter": 20,
                "optim_g": {"type": "sgd", "lr": 0.1},
                "losses": [{"type": "l1"}],
                "ema_decay": 0,
            }
            | train,
        }
    )


def make_model(
    runtime: Runtime | None = None, options: TrainingOptions | None = None, **train: Any
) -> SRModel:
    torch.manual_seed(0)
    options = options or make_options(**train)
    network = build_network(options.network_g.type, scale=options.scale, **options.network_g.params)
    return SRModel(options, runtime or Runtime(CPU), network)


def make_batch(size: int = 4, side: int = 8, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    lq = torch.rand(size, 3, side, side, generator=generator)
    gt = torch.rand(size, 3, side * 2, side * 2, generator=generator)
    paths = [f"{i}.png" for i in range(size)]
    return Batch(lq, gt, list(range(size)), paths, paths)


def network_of(model: SRModel) -> nn.Module:
    return model.main.module


def average_of(model: SRModel) -> nn.Module:
    average = model.networks.average_of(model.main)
    assert average is not None
    return average.module


def context(**settings: Any) -> StepContext:
    return StepContext(iteration=1, rate_factor=1.0, **settings)


def weights(model: SRModel) -> list[torch.Tensor]:
    return [p.detach().clone() for p in network_of(model).parameters()]


def test_gradients_of_uneven_chunks_equal_the_whole_batchs() -> None:
    batch = make_batch(5)
    first, rest = batch.split(1)
    gradients = []
    for chunks in ([batch], [first, *rest.split(2)]):
        model = make_model(losses=[{"type": "l1"}, {"type": "charbonnier", "loss_weight": 0.5}])
        model.runner.accumulate(model.phases[0], chunks, context())
        gradients.append([p.grad for p in model.phases[0].parameters])
    for whole, summed in zip(*gradients, strict=True):
        difference = (whole - summed).norm() / whole.norm()
        assert difference <= 1e-6


def test_a_step_returns_what_really_happened() -> None:
    model = make_model(losses=[{"type": "l1"}, {"type": "mse", "loss_weight": 2.0}])
    batch = make_batch()
    lq, gt = batch.pair
    with torch.no_grad():
        error = network_of(model)(lq) - gt
    result = model.step([batch], per_sample=True)
    expected = {"l1": float(error.abs().mean()), "mse": 2 * float(error.square().mean())}
    assert {label: float(loss) for label, loss in result.losses.items()} == pytest.approx(
        expected, rel=1e-5
    )
    of_each = error.abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(result.per_sample["l1"], of_each)
    assert (result.iteration, result.samples) == (1, 4)
    assert result.shape == Shape(8, 4)
    assert result.pixels == 4 * 8 * 8
    assert result.retries == ()
    assert result.reading is None, "nobody measures"
    assert model.step([batch]).per_sample == {}, "nobody asked"
    names = set(vars(model))
    assert not names & {"received", "samples_in_step", "losses", "out_of_memory_in_step"}


def test_means_of_losses_are_read_once() -> None:
    means = LossMeans()
    means.add({"l1": torch.tensor(1.0)})
    means.add({"l1": torch.tensor(3.0)})
    assert means.read() == {"l1": 2.0}
    assert means.read() == {}


def test_warm_up_climbs_and_leaves_the_schedule_alone() -> None:
    model = make_model(
        warmup_iter=4, scheduler={"type": "MultiStepLR", "milestones": [2, 6], "gamma": 0.1}
    )
    used: list[float] = []
    optimizer = model.phases[0].optimizer
    optimizer.register_step_pre_hook(lambda *_: used.append(optimizer.param_groups[0]["lr"]))
    for _ in range(8):
        model.step([make_batch()])
    assert used == pytest.approx([0.025, 0.05, 0.0075, 0.01, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize(
    "optimizer", [{"type": "adamw", "lr": 0.1}, {"type": "rmsprop", "lr": 0.1}]
)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_non_finite_step_changes_nothing_and_is_reported(
    optimizer: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model(optim_g=optimizer)
    model.step([make_batch()])
    before = weights(model)
    state = copy.deepcopy(model.phases[0].optimizer.state_dict()["state"])
    bad = make_batch()
    bad.pair[0][0, 0, 0, 0] = float("nan")
    model.step([bad])
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
    after = model.phases[0].optimizer.state_dict()["state"]
    for key, slots in state.items():
        assert all(torch.equal(slots[name], after[key][name]) for name in slots)
    model.phases[0].guard.flush()
    assert model.phases[0].guard.total == 1
    assert (
        "1 steps with non-finite gradients skipped (1 in all) in the generator; images of the "
        "last: 0.png, 1.png" in caplog.text
    )
    model.step([make_batch()])
    assert not torch.equal(before[0], weights(model)[0])


def test_many_non_finite_steps_in_a_row_end_the_run() -> None:
    model = make_model(max_nonfinite_steps=3)
    bad = make_batch()
    bad.pair[0].fill_(float("inf"))
    model.step([bad])
    model.step([make_batch()])
    model.step([bad])
    model.step([bad])
    message = "gradients of the generator were not finite for 3 iterations in a row"
    with pytest.raises(TrainingError, match=message):  # noqa: PT012 (whichever looks)
        model.step([bad])
        model.phases[0].guard.flush()


def test_fused_kernels_skip_a_step_on_the_device() -> None:
    """What NonFiniteGuard relies on where it must not wait: fused kernels heed `found_inf`."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    weight.grad = torch.ones(3)
    optimizer.found_inf = torch.tensor(1.0)  # type: ignore[attr-defined]
    optimizer.step()
    assert torch.equal(weight, torch.ones(3))
    assert float(optimizer.state[weight]["step"]) == 0
    optimizer.found_inf = torch.tensor(0.0)  # type: ignore[attr-defined]
    optimizer.step()
    assert not torch.equal(weight, torch.ones(3))


def test_the_moving_average_follows() -> None:
    model = make_model(ema_decay=0.5)
    first = [p.clone() for p in average_of(model).parameters()]
    model.step([make_batch()])  # the first update copies
    one = weights(model)
    assert all(torch.equal(a, b) for a, b in zip(one, average_of(model).parameters(), strict=True))
    model.step([make_batch(seed=1)])
    two = weights(model)
    for before, a, b, ema in zip(first, one, two, average_of(model).parameters(), strict=True):
        torch.testing.assert_close(ema, (a + b) / 2)
        assert before.shape == ema.shape
    assert model.networks.evaluated(model.main).module is average_of(model)


@pytest.mark.parametrize("amp_dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_trains_and_keeps_float32_weights(amp_dtype: torch.dtype) -> None:
    model = make_model(Runtime(CPU, amp_dtype), optim_g={"type": "adamw", "lr": 1e-2})
    batch = make_batch()
    first = float(model.step([batch]).losses["l1"])
    for _ in range(29):
        last = float(model.step([batch]).losses["l1"])
    assert last < first
    assert {p.dtype for p in network_of(model).parameters()} == {torch.float32}
    assert model.phases[0].scaler.is_enabled() == (amp_dtype is torch.float16)
    assert model.upscale(batch.pair[0]).dtype == torch.float32


def test_upscale_leaves_the_mode_as_it_was_and_keeps_no_graph() -> None:
    model = make_model()
    out = model.upscale(torch.rand(1, 3, 9, 7))
    assert out.shape == (1, 3, 18, 14)
    assert not out.requires_grad
    assert network_of(model).training


def test_channels_last_gives_the_same_step() -> None:
    plain = make_model()
    last = make_model(Runtime(CPU, channels_last=True))
    for model in (plain, last):
        model.step([make_batch()])
    for a, b in zip(weights(plain), weights(last), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_takes_a_step_and_its_state_survives(name: str) -> None:
    layer = nn.Linear(3, 2)
    optimizer = build_optimizer(name, layer.parameters(), {"lr": 0.01}, CPU)
    before = layer.weight.detach().clone()
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, layer.weight)
    build_optimizer(name, layer.parameters(), {"lr": 0.01}, CPU).load_state_dict(
        optimizer.state_dict()
    )


def test_parts_of_a_network_have_rates_of_their_own() -> None:
    """0 leaves weights as they are; the schedule goes on top of each factor."""
    model = make_model(
        optim_g={"type": "sgd", "lr": 0.1, "lr_mul": {"body.0": 0.5, "bias": 0.0}},
        scheduler={"type": "StepLR", "step_size": 1, "gamma": 0.5},
    )
    phase = model.phases[0]
    assert [group["lr"] for group in phase.optimizer.param_groups] == [0.1, 0.05, 0.0]
    names = dict(network_of(model).named_parameters())
    before = {name: weight.detach().clone() for name, weight in names.items()}
    model.step([make_batch()])
    for name, weight in names.items():
        moved = before[name] - weight.detach()
        if "body.0" in name:
            assert moved.any()
        elif "bias" in name:
            assert not moved.any()
    assert [group["lr"] for group in phase.optimizer.param_groups] == [0.05, 0.025, 0.0]
    other = make_model(
        optim_g={"type": "sgd", "lr": 0.1, "lr_mul": {"body.0": 0.5, "bias": 0.0}},
        scheduler={"type": "StepLR", "step_size": 1, "gamma": 0.5},
    )
    other.phases[0].load_state_dict(phase.state_dict())
    assert [group["lr"] for group in other.phases[0].optimizer.param_groups] == [0.05, 0.025, 0.0]
    with pytest.raises(
        OptionsError, match=r"train\.optim_g\.lr_mul: no weight's name has 'spynet'"
    ):
        make_model(optim_g={"type": "adamw", "lr_mul": {"spynet": 0.1}})


LENGTH = RunLength.of("total_iter", 12, samples=2, pixels=512)
REQUIRED = {
    "MultiStepLR": {"milestones": [3]},
    "StepLR": {"step_size": 3},
    "CosineAnnealingWarmRestarts": {"T_0": 5},
    "ExponentialLR": {"gamma": 0.9},
    "OneCycleLR": {"max_lr": 0.1},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1},
}


@pytest.mark.parametrize("name", list(SCHEDULERS))
def test_every_scheduler_runs_to_the_end_and_its_state_survives(name: str) -> None:
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1, momentum=0.9)
    scheduler = build_scheduler(name, optimizer, LENGTH, REQUIRED.get(name, {}))
    rates = []
    for _ in range(11):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert len(set(rates)) > 1 or name == "ConstantLR"  # constant to the end of the run
    build_scheduler(name, optimizer, LENGTH, REQUIRED.get(name, {})).load_state_dict(
        scheduler.state_dict()
    )


def test_the_guard_counts_across_checkpoints() -> None:
    guard = NonFiniteGuard(5, scaled=False)
    guard.load_state_dict({"total": 4, "in_a_row": 2})
    assert guard.state_dict() == {"total": 4, "in_a_row": 2}


@pytest.mark.gpu
def test_a_step_on_the_gpu_does_not_wait_for_the_device() -> None:
    runtime = Runtime(torch.device("cuda"))
    model = make_model(
        runtime, optim_g={"type": "adamw", "lr": 1e-3}, ema_decay=0.9, max_nonfinite_steps=1000
    )
    batch = make_batch()
    for _ in range(3):
        model.step([batch])
    torch.cuda.set_sync_debug_mode("error")
    try:
        pinned = batch.pin_memory()
        for _ in range(3):
            model.step([pinned])
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("rule", "factor"), [("none", 1.0), ("sqrt", 2.0), ("linear", 4.0)])
def test_the_rate_follows_the_samples_of_a_step(rule: str, factor: float) -> None:
    model = make_model(
        lr_scaling=rule, scheduler={"type": "MultiStepLR", "milestones": [2], "gamma": 0.1}
    )
    used: list[float] = []
    optimizer = model.phases[0].optimizer
    optimizer.register_step_pre_hook(lambda *_: used.append(optimizer.param_groups[0]["lr"]))
    for samples in (8, 32, 8):  # 8 is the batch of the options
        result = model.step([make_batch(samples // 2)] * 2)
        assert result.samples == samples
        assert result.shape.batch_size == samples // 2
        assert result.phases["generator"].learning_rate == pytest.approx(used[-1])
    assert used == pytest.approx([0.1, 0.1 * factor, 0.01])
