"""Running out of memory costs a retry: no sample, no state and no randomness is lost."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_sr_model import average_of, context, make_batch, make_model, network_of
from tests.models.test_two_phases import Scarce as ScarcePhase
from tests.models.test_two_phases import make_recipe
from traiNNer.data import Batch
from traiNNer.models import (
    Chunk,
    Losses,
    Objective,
    Retry,
    SmallestTileError,
    SRModel,
    StepResult,
    TileSettings,
    Upscaler,
)
from traiNNer.models.chunks import Memo, smaller_chunks
from traiNNer.models.rewind import Rewind
from traiNNer.models.weight_step import change_weights
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import TrainingError
from traiNNer.utils.out_of_memory import is_out_of_memory
from traiNNer.utils.shape import Shape

CPU = torch.device("cpu")


class Scarce(nn.Module):
    """A network that runs out of memory on more than `limit` pixels, in the forward or in the
    backward pass.
    """

    def __init__(self, inner: nn.Module, limit: int, where: str) -> None:
        super().__init__()
        self.inner = inner
        self.limit = limit
        self.where = where
        self.received: list[tuple[int, ...]] = []

    def forward(self, lq: Tensor) -> Tensor:
        self.received.append(tuple(lq.shape))
        too_large = lq.shape[0] * lq.shape[2] * lq.shape[3] > self.limit
        if too_large and self.where == "forward":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        out = self.inner(lq)
        if too_large:
            out.register_hook(_fail)
        return out


def _fail(gradient: Tensor) -> Tensor:
    raise RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried "
        "to"
    )


def scarce_model(limit: int, where: str = "forward", **train: object):
    model = make_model(**train)
    scarce = Scarce(network_of(model), limit, where)
    model.forward_main = scarce
    return model, scarce


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_the_retried_gradients_equal_the_whole_batchs(where: str) -> None:
    batch = make_batch(5)
    plain = make_model()
    plain.runner.accumulate(plain.phases[0], [batch], context())
    wanted = [p.grad for p in plain.phases[0].parameters]
    model, scarce = scarce_model(2 * 64, where)
    result = model.runner.run(model.phases[0], [batch], context())
    for whole, parameter in zip(wanted, model.phases[0].parameters, strict=True):
        assert whole is not None
        assert parameter.grad is not None
        assert (whole - parameter.grad).norm() <= 1e-6 * whole.norm()
    assert [shape[0] for shape in scarce.received] == [5, 2, 3, 1, 1, 1, 2]
    assert result.retry == Retry("generator", asked=Shape(8, 5), fitted=Shape(8, 2), failures=2)


def test_a_step_that_ran_out_of_memory_ends_as_if_it_had_not() -> None:
    settings = {
        "ema_decay": 0.9,
        "optim_g": {"type": "adamw", "lr": 1e-3},
        "warmup_iter": 3,
        "grad_clip": True,
    }
    plain = make_model(**settings)
    (model, _) = scarce_model(64, "backward", **settings)
    for seed in range(3):
        wanted = plain.step([make_batch(4, seed=seed)]).losses
        losses = model.step([make_batch(4, seed=seed)]).losses
        torch.testing.assert_close(losses, wanted, rtol=1e-4, atol=1e-6)
    for ours, theirs in (
        (network_of(model), network_of(plain)),
        (average_of(model), average_of(plain)),
    ):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert model.phases[0].scheduler is None
    assert model.iteration == 3


def test_single_samples_are_cropped_before_the_run_gives_up() -> None:
    model, scarce = scarce_model(20 * 20)
    model.step([make_batch(2, side=32)])
    assert [shape[0] for shape in scarce.received] == [2, 1, 1, 1]
    assert scarce.received[-1] == (1, 3, 16, 16)
    hopeless, _ = scarce_model(10)
    with pytest.raises(
        TrainingError,
        match=r"one sample of 16 px LQ does not fit into the memory of cpu .* use_amp",
    ):
        hopeless.step([make_batch(2, side=32)])


def test_other_errors_are_not_taken_for_lack_of_memory() -> None:
    model = make_model()
    model.forward_main = Scarce(nn.Conv2d(4, 3, 1), 10**9, "forward")
    with pytest.raises(RuntimeError, match="channels"):
        model.step([make_batch()])


def test_rewinding_restores_statistics_and_randomness() -> None:
    network = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.InstanceNorm2d(4, track_running_stats=True),
        # The usual one of critics, which is older.
        nn.utils.spectral_norm(nn.Conv2d(4, 4, 3)),
    ).train()
    image = torch.rand(2, 3, 8, 8)
    rewind = Rewind([network], CPU)
    rewind.mark()
    before = copy.deepcopy(network.state_dict())
    first = network(image)
    for name in ("1.running_mean", "3.running_mean", "4.weight_u"):
        assert not torch.equal(network.state_dict()[name], before[name]), name
    rewind.restore()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(network(image), first)


def test_chunks_keep_every_sample_and_its_metadata() -> None:
    batch = make_batch(5, side=32)
    chunks = smaller_chunks([batch], 8, 8)
    assert chunks is not None
    assert [i for chunk in chunks for i in chunk.indices] == [0, 1, 2, 3, 4]
    assert [p for chunk in chunks for p in chunk.gt_paths] == batch.gt_paths
    assert smaller_chunks([make_batch(1, side=8)], 8, 8) is None


def sizes(chunks: list[Batch] | None) -> list[tuple[int, int]]:
    assert chunks is not None
    return [(len(chunk), chunk.lq_size) for chunk in chunks]


def test_of_chunks_of_two_sizes_the_largest_become_smaller() -> None:
    small = make_batch(1, side=16)
    large = make_batch(1, side=64)
    assert sizes(smaller_chunks([small, large], 16, 4)) == [(1, 16), (1, 32)]
    assert sizes(smaller_chunks([large, small], 16, 4)) == [(1, 32), (1, 16)]
    assert sizes(smaller_chunks([make_batch(1, side=24), large], 16, 4)) == [(1, 24), (1, 32)]
    # What is largest cannot be cropped further, so it may be the others that failed.
    beside = make_batch(8, side=8)
    assert sizes(smaller_chunks([make_batch(1, side=32), beside], 32, 4)) == [
        (1, 32),
        (4, 8),
        (4, 8),
    ]
    assert smaller_chunks([small, small], 16, 4) is None


def test_no_chunk_has_fewer_samples_than_the_network_can_be_trained_on() -> None:
    assert sizes(smaller_chunks([make_batch(5, side=32)], 8, 8, 2)) == [(2, 32), (3, 32)]
    assert sizes(smaller_chunks([make_batch(3, side=32)], 8, 8, 2)) == [(3, 16)]


def test_a_crop_is_of_a_size_that_the_network_takes() -> None:
    assert sizes(smaller_chunks([make_batch(1, side=48)], 8, 16)) == [(1, 16)]
    assert sizes(smaller_chunks([make_batch(1, side=40)], 24, 8)) == [(1, 24)]


class Complaining(nn.Module):
    """A network that raises some errors before it computes."""

    def __init__(self, inner: nn.Module, errors: list[Exception]) -> None:
        super().__init__()
        self.inner = inner
        self.errors = errors

    def forward(self, lq: Tensor) -> Tensor:
        if self.errors:
            raise self.errors.pop(0)
        return self.inner(lq)


def complaining_step(*errors: Exception, samples: int = 2) -> StepResult:
    model = make_model()
    model.forward_main = Complaining(network_of(model), list(errors))
    return model.step([make_batch(samples)])


ENGINE = "FIND was unable to find an engine to execute this computation"


def test_an_error_without_words_and_a_shortage_that_passes_end_nothing() -> None:
    assert complaining_step(MemoryError()).retries[0].failures == 1
    # One sample of the smallest size: once more, with what was given back.
    assert complaining_step(MemoryError(), samples=1).retries[0].failures == 1


def test_what_may_be_a_lack_of_memory_is_tried_once_with_less() -> None:
    assert complaining_step(RuntimeError(ENGINE)).retries[0].failures == 1
    with pytest.raises(
        TrainingError, match=r"unable to find an engine.*probably no lack of memory"
    ):
        complaining_step(RuntimeError(ENGINE), RuntimeError(ENGINE))
    # Behind one that was nothing else it is one too.
    errors = (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(ENGINE))
    assert complaining_step(*errors, RuntimeError(ENGINE), samples=8).retries[0].failures == 3
    with pytest.raises(RuntimeError, match="size mismatch"):
        complaining_step(RuntimeError("size mismatch"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (lambda: torch.empty(2**60), True),
        (lambda: torch.zeros(2, 3) @ torch.zeros(2, 3), False),
        (lambda: bytearray(2**62), True),
    ],
)
def test_real_errors_are_told_apart(error: Callable[[], object], expected: bool) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        error()
    assert is_out_of_memory(caught.value) == expected


def test_a_killed_worker_is_no_lack_of_device_memory() -> None:
    assert not is_out_of_memory(
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. out of memory")
    )


class ScarceOptimizer:
    """Makes an optimizer's step fail while the phase's chunks are larger than `limit` samples."""

    def __init__(self, model: SRModel, limit: int, *, after_first_state: bool = False) -> None:
        self.model = model
        self.limit = limit
        self.failures = 0
        self.after_first_state = after_first_state
        self.largest = 0
        optimizer = model.phases[0].optimizer
        optimizer.register_step_pre_hook(self._fail)
        objective = model.phases[0].objectives[0]

        def counted(chunk: Chunk) -> Losses:
            self.largest = max(self.largest, len(chunk.batch))
            return objective.losses(chunk)

        model.phases[0].objectives = (Objective(counted),)

    def _fail(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        largest = self.largest
        self.largest = 0
        if largest <= self.limit:
            return
        self.failures += 1
        if (
            self.after_first_state
        ):  # as torch does it: moments come to exist one weight after the other
            weight = optimizer.param_groups[0]["params"][0]
            if weight not in optimizer.state:
                optimizer.state[weight] = {
                    "step": torch.tensor(0.0),
                    "exp_avg": torch.zeros_like(weight),
                }
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


@pytest.mark.parametrize("amp_dtype", [None, torch.float16])
@pytest.mark.parametrize("optimizer", ["adamw", "nadam"])
def test_a_failed_optimizer_step_ends_as_if_it_had_not(
    amp_dtype: torch.dtype | None, optimizer: str
) -> None:
    settings = {
        "ema_decay": 0.9,
        "optim_g": {"type": optimizer, "lr": 1e-3},
        "warmup_iter": 3,
        "grad_clip": True,
    }
    runtime = Runtime(CPU, amp_dtype)
    plain = make_model(runtime, **settings)
    model = make_model(runtime, **settings)
    scarce = ScarceOptimizer(model, limit=2, after_first_state=True)
    failures = 0
    for seed in range(3):
        plain.step([make_batch(4, seed=seed)])
        failures += sum(r.failures for r in model.step([make_batch(4, seed=seed)]).retries)
    assert scarce.failures == failures == 3
    assert model.phases[0].scaler.state_dict() == plain.phases[0].scaler.state_dict()
    tolerance = 1e-5 if amp_dtype is None else 1e-3
    for a, b in zip(network_of(model).parameters(), network_of(plain).parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    rates = [group["lr"] for group in model.phases[0].optimizer.param_groups]
    assert rates == [group["lr"] for group in plain.phases[0].optimizer.param_groups]
    steps = {float(state["step"]) for state in model.phases[0].optimizer.state.values()}
    assert steps == {3.0}


@pytest.mark.parametrize(
    "optim", [{"type": "nadam"}, {"type": "adamw"}, {"type": "adamw", "fused": False}]
)
def test_a_weight_that_cannot_be_changed_ends_the_run_with_all_as_it_was(
    optim: dict[str, object],
) -> None:
    model = make_model(optim_g={"lr": 1e-3} | optim)
    model.step([make_batch()])
    before = [p.clone() for p in network_of(model).parameters()]

    def half_way(optimizer: torch.optim.Optimizer, *_: object) -> None:
        with torch.no_grad():
            optimizer.param_groups[0]["params"][0].add_(1.0)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model.phases[0].optimizer.register_step_pre_hook(half_way)
    with pytest.raises(TrainingError, match=r"half-way through the step of .*Go on from the last"):
        model.step([make_batch()])
    assert all(map(torch.equal, before, network_of(model).parameters()))
    assert not model.runner.between_steps


class AtOnce(torch.optim.SGD):
    """An optimizer of a program's own, which must see all of its weights in each step."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.seen = [len(group["params"]) for group in self.param_groups]
        super().step(closure)


def test_weights_are_changed_in_bundles_but_by_an_optimizer_that_may_mind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("traiNNer.models.weight_step.BUNDLE", 100)
    weights = [torch.nn.Parameter(torch.ones(60)) for _ in range(4)]
    for weight in weights:
        weight.grad = torch.ones(60)
    groups = [{"params": weights[:1], "lr": 0.1}, {"params": weights[1:], "lr": 0.2}]
    plain = torch.optim.SGD(groups)
    calls: list[list[float]] = []
    plain.register_step_pre_hook(
        lambda optimizer, *_: calls.append([group["lr"] for group in optimizer.param_groups])
    )
    assert change_weights(plain, False, CPU) == 0
    assert calls == [[0.1], [0.2], [0.2], [0.2]]
    assert [len(group["params"]) for group in plain.param_groups] == [1, 3]
    assert [round(weight[0].item(), 3) for weight in weights] == [0.9, 0.8, 0.8, 0.8]
    own = AtOnce(groups)
    assert change_weights(own, False, CPU) == 0
    assert own.seen == [1, 3]


def test_what_was_kept_of_a_failed_attempt_is_forgotten() -> None:
    recipe = make_recipe()
    ScarcePhase(recipe, "generator", limit=2)
    step = context()
    recipe.runner.run(recipe.phases[0], [make_batch(4)], step)
    assert step.memo.mark() == {"sr": 2}, "two halves, and not the whole batch that failed"


def test_the_largest_shape_that_entered_is_reported() -> None:
    model = make_model()
    result = model.step([make_batch(2, side=16), make_batch(4, side=8)])
    assert result.shape == Shape(16, 2)
    chunk = Chunk(make_batch(1, side=8), 0, Memo())
    chunk.enter(torch.zeros(1, 3, 32, 32))
    chunk.enter(torch.zeros(2, 3, 8, 8))
    assert chunk.entered == Shape(32, 1)


def test_an_average_follows_a_step_once_and_none_that_was_skipped() -> None:
    model = make_model(ema_decay=0.5)
    (average,) = model.averages
    weight = next(network_of(model).parameters())
    mean = next(average_of(model).parameters())
    nothing = torch.tensor(True)
    with torch.no_grad():
        weight.fill_(1.0)
        average.update(1.0, nothing)
        assert not average.has_begun
        weight.fill_(2.0)
        average.update(2.0, ~nothing)
        assert torch.equal(mean, weight), "the first step that was made is copied"
        weight.fill_(4.0)
        for _ in range(2):
            average.update(3.0, iteration=3)
        assert torch.equal(mean, torch.full_like(mean, 3.0))
        average.update(4.0, nothing)
        assert torch.equal(mean, torch.full_like(mean, 3.0))


def test_a_device_that_is_not_waited_for_averages_the_same() -> None:
    here, there = make_model(ema_decay=0.9), make_model(ema_decay=0.9)
    for number, skips in enumerate((True, False, False, True, False), start=1):
        skipped = torch.tensor(skips)
        for model in (here, there):
            with torch.no_grad():
                for weight in network_of(model).parameters():
                    weight.add_(0.1 * number)
        here.averages[0].update(number, skipped)
        there.averages[0]._follow_on_device(0.9, skipped)
        assert here.averages[0].has_begun == there.averages[0].has_begun
        if here.averages[0].has_begun:
            for ours, theirs in zip(
                average_of(here).parameters(), average_of(there).parameters(), strict=True
            ):
                torch.testing.assert_close(ours, theirs)


class ScarceEverywhere(nn.Module):
    """Twice as large; fails on sides above `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.sides = []

    def forward(self, lq: Tensor) -> Tensor:
        self.sides.append(max(lq.shape[-2:]))
        if self.sides[-1] > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")
        return nn.functional.interpolate(lq, scale_factor=2)


def test_whole_images_lower_the_tile_and_nothing_else() -> None:
    upscaler = Upscaler(Runtime(CPU), TileSettings(2, 8, 8, 0, 8))
    network = ScarceEverywhere(64)
    image = torch.rand(1, 3, 150, 200)
    torch.testing.assert_close(
        upscaler(network, image), nn.functional.interpolate(image, scale_factor=2)
    )
    assert network.sides[:2] == [200, 96]
    assert upscaler.tile_size == 48, "and stays there"
    network.sides.clear()
    upscaler(network, image)
    assert max(network.sides) == 48
    with pytest.raises(SmallestTileError, match=r"tiles of 32 LQ pixels does not fit .* 9\.00 GiB"):
        upscaler(ScarceEverywhere(16), image)


def test_a_step_that_is_left_out_leaves_running_statistics_as_they_were() -> None:
    """What made the gradients infinite is in the statistics too, and would stay there."""
    model = make_model()
    norm = nn.BatchNorm2d(3)
    network = nn.Sequential(norm, network_of(model))
    model.forward_main = network
    model.runner._rewinds[model.phases[0].name] = Rewind([network], CPU)
    model.step([make_batch(2)])
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    weights = [p.clone() for p in network_of(model).parameters()]
    batch = make_batch(2)
    assert batch.lq is not None
    batch.lq = torch.full_like(batch.lq, float("inf"), dtype=torch.float32)
    model.step([batch])
    assert torch.equal(norm.running_mean, before)
    assert all(map(torch.equal, weights, network_of(model).parameters()))
    model.step([make_batch(2, seed=1)])
    assert not torch.equal(norm.running_mean, before)
