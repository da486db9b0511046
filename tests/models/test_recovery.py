"""Running out of memory costs a retry: no sample, no state and no randomness is lost."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_sr_model import make_batch, make_model
from traiNNer.models.recovery import Rewind, smaller_chunks
from traiNNer.utils.errors import TrainingError
from traiNNer.utils.out_of_memory import is_out_of_memory

CPU = torch.device("cpu")


class Scarce(nn.Module):
    """A network that runs out of memory on more than `limit` pixels, in the forward or in the backward pass."""

    def __init__(self, inner: nn.Module, limit: int, where: str) -> None:
        super().__init__()
        self.inner, self.limit, self.where = inner, limit, where
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
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to")


def scarce_model(limit: int, where: str = "forward", **train: object):
    model = make_model(**train)
    scarce = Scarce(model.net_g, limit, where)
    model._forward_g = scarce
    return model, scarce


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_the_retried_gradients_equal_the_whole_batchs(where: str) -> None:
    batch = make_batch(5)
    plain = make_model()
    plain.accumulate(plain.phases[0], [batch])
    wanted = [p.grad for p in plain.phases[0].parameters]
    model, scarce = scarce_model(2 * 64, where)
    model._accumulate_or_retry(model.phases[0], [batch])
    for whole, parameter in zip(wanted, model.phases[0].parameters, strict=True):
        assert whole is not None
        assert parameter.grad is not None
        assert (whole - parameter.grad).norm() <= 1e-6 * whole.norm()
    assert [shape[0] for shape in scarce.received] == [5, 2, 3, 1, 1, 1, 2]
    assert model.out_of_memory_total == 2
    assert model.out_of_memory_in_step


def test_a_step_that_ran_out_of_memory_ends_as_if_it_had_not() -> None:
    settings = {"ema_decay": 0.9, "optim_g": {"type": "adamw", "lr": 1e-3}, "warmup_iter": 3, "grad_clip": True}
    plain, (model, _) = make_model(**settings), scarce_model(64, "backward", **settings)
    for seed in range(3):
        plain.train_step([make_batch(4, seed=seed)])
        model.train_step([make_batch(4, seed=seed)])
    assert model.losses.read() == pytest.approx(plain.losses.read(), rel=1e-6)
    assert plain.ema_g is not None
    assert model.ema_g is not None
    for ours, theirs in ((model.net_g, plain.net_g), (model.ema_g.module, plain.ema_g.module)):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert model.phases[0].scheduler is None
    assert model.iteration == 3


def test_single_samples_are_cropped_before_the_run_gives_up() -> None:
    model, scarce = scarce_model(20 * 20)
    model.train_step([make_batch(2, side=32)])
    assert [shape[0] for shape in scarce.received] == [2, 1, 1, 1]
    assert scarce.received[-1] == (1, 3, 16, 16)
    hopeless, _ = scarce_model(10)
    with pytest.raises(TrainingError, match=r"one sample of 16 px LQ does not fit into the memory of cpu .* use_amp"):
        hopeless.train_step([make_batch(2, side=32)])


def test_other_errors_are_not_taken_for_lack_of_memory() -> None:
    model = make_model()
    model._forward_g = Scarce(nn.Conv2d(4, 3, 1), 10**9, "forward")
    with pytest.raises(RuntimeError, match="channels"):
        model.train_step([make_batch()])
    assert model.out_of_memory_total == 0


def test_rewinding_restores_statistics_and_randomness() -> None:
    network = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4), nn.Dropout(0.5)
    ).train()
    image = torch.rand(2, 3, 8, 8)
    rewind = Rewind([network], CPU)
    before = copy.deepcopy(network.state_dict())
    first = network(image)
    assert not torch.equal(network.state_dict()["1.running_mean"], before["1.running_mean"])
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
    assert not is_out_of_memory(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. out of memory"))
