"""The memory automation around a plain loop."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from tests.engine.witness import card
from traiNNer import fit_memory
from traiNNer.automations import Shape, SimulatedMemory
from traiNNer.utils.errors import OptionsError, TrainingError

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")


class Pictures(Dataset[tuple[Tensor, int]]):
    """Noise of 48 px, and what index it has."""

    def __init__(self, count: int = 20) -> None:
        generator = torch.Generator().manual_seed(0)
        self.pictures = torch.rand(count, 3, 48, 48, generator=generator)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pictures[index], index


class SizedPictures(Pictures):
    """The same, cut to what is asked for."""

    def sized(self, index: int, size: int) -> tuple[Tensor, int]:
        return self.pictures[index, :, :size, :size], index


def cut(samples: list[tuple[Tensor, int]], size: int) -> tuple[Tensor, Tensor]:
    """A collate hook that makes the size."""
    pictures = torch.stack([picture[:, :size, :size] for picture, _ in samples])
    return pictures, torch.tensor([index for _, index in samples])


class Loop:
    """A network, its optimizer, a loss that notes what enters, and a card that judges it."""

    def __init__(self, largest: Shape | None = None, batch_norm: bool = False) -> None:
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Conv2d(3, 4, 3, padding=1), nn.PReLU()]
        if batch_norm:
            layers.append(nn.BatchNorm2d(4))
        self.network = nn.Sequential(*layers, nn.Dropout(0.1), nn.Conv2d(4, 3, 3, padding=1))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3)
        self.memory = SimulatedMemory(card(largest or Shape(64, 64)))
        self.entered: list[Shape] = []
        self.indices: list[list[int]] = []
        self.fails_at: set[int] = set()
        self.calls = 0

    def loss(self, batch: Any) -> Tensor:
        pictures, indices = batch
        self.calls += 1
        self.memory.step(Shape(pictures.shape[-1], len(pictures)))
        if self.calls in self.fails_at:
            raise FULL
        self.entered.append(Shape(pictures.shape[-1], len(pictures)))
        self.indices.append(indices.tolist())
        return functional.mse_loss(self.network(pictures), pictures)

    def fit(self, dataset: Any, **settings: Any) -> Any:
        return fit_memory(
            self.loss, self.network, self.optimizer, dataset, memory=self.memory, **settings
        )

    def weights(self) -> list[Tensor]:
        return [weight.detach().clone() for weight in self.network.parameters()]


def assert_permutations(indices: list[int], count: int) -> None:
    for first in range(0, len(indices) - count + 1, count):
        assert sorted(indices[first : first + count]) == list(range(count))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("kind", ["hook", "requests"])
def test_size_then_batch_grow_to_the_target_and_no_sample_is_lost(kind: str, workers: int) -> None:
    loop = Loop(Shape(32, 40))
    sizes = {"size": 16, "max_size": 32, "size_multiple": 4}
    hook = {"collate": cut} if kind == "hook" else {}
    dataset = Pictures() if kind == "hook" else SizedPictures()
    automation = {"adjustment_frequency": 1}
    fit = loop.fit(
        dataset,
        epochs=150,
        batch_size=4,
        num_workers=workers,
        automation=automation,
        **sizes,
        **hook,
    )
    steps = list(fit)
    last = loop.entered[-2]
    assert last.lq_size == 32
    assert 0.82 <= loop.memory.share(last) <= 0.87
    assert [Shape(step.size, step.samples) for step in steps] == loop.entered
    indices = [index for step in steps for index in step.indices]
    assert indices == [index for batch in loop.indices for index in batch]
    assert len(indices) == 150 * len(dataset)
    assert_permutations(indices, len(dataset))
    assert fit.epoch == 150
    curves = fit.curves
    assert curves["samples"] == [step.samples for step in steps]
    assert len(curves["loss"]) == len(steps)
    assert curves["loss"][-1] == pytest.approx(steps[-1].loss.item())


def test_without_sizes_the_batch_alone_grows() -> None:
    loop = Loop(Shape(48, 30))
    fit = loop.fit(Pictures(), epochs=60, automation={"adjustment_frequency": 1})
    for step in fit:
        assert step.size == 1
    assert 0.82 <= loop.memory.share(loop.entered[-2]) <= 0.87


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_step_that_ran_out_of_memory_is_the_step_that_did_not(batch_norm: bool) -> None:
    """With a batch norm, statistics are of halves, but counted once."""
    ends: list[list[Tensor]] = []
    statistics: list[int] = []
    for fails_at in (set[int](), {3, 4, 9}):
        loop = Loop(batch_norm=batch_norm)
        loop.network[-2] = nn.Identity()  # dropout draws for a batch, and not for halves of it
        loop.fails_at = fails_at
        # Fixed sizes, so that both take the same samples.
        bounds = {"min_batch_size": 4, "max_batch_size": 4}
        steps = list(loop.fit(Pictures(), epochs=2, batch_size=4, automation=bounds))
        assert sum(step.failures for step in steps) == len(fails_at)
        assert_permutations([index for step in steps for index in step.indices], 20)
        ends.append(loop.weights())
        norm = loop.network[2]
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.num_batches_tracked is not None
            statistics.append(int(norm.num_batches_tracked))
    if not batch_norm:
        for calm, disturbed in zip(*ends, strict=True):
            torch.testing.assert_close(calm, disturbed, rtol=1e-4, atol=1e-6)
    else:
        # Two steps were made of halves, and one of them of quarters in part.
        assert statistics[0] == 10
        assert statistics[1] <= 15
        # Never alone, whatever ran out and whatever was left of the last epoch.
        assert min(shape.batch_size for shape in loop.entered) >= 2


def test_single_samples_become_smaller_and_then_it_is_said() -> None:
    loop = Loop(Shape(12, 1))
    fit = loop.fit(Pictures(), size=8, max_size=48, collate=cut, epochs=4)
    sizes = {step.size for step in fit}
    assert max(sizes) <= 16
    tiny = Loop(Shape(4, 1))
    with pytest.raises(TrainingError, match="does not hold 1 sample of size 40"):
        list(tiny.fit(Pictures(), size=40, collate=cut))


def test_it_goes_on_where_it_stopped() -> None:
    whole = Loop(Shape(32, 12))
    settings: dict[str, Any] = {"size": 16, "max_size": 32, "collate": cut, "batch_size": 4}
    straight = [step.indices for step in whole.fit(Pictures(), epochs=20, **settings)]
    first = Loop(Shape(32, 12))
    fit = first.fit(Pictures(), epochs=20, **settings)
    taken = [next(iter(fit)).indices for _ in range(9)]
    state = fit.state_dict()
    torch.manual_seed(0)
    again = first.fit(Pictures(), epochs=20, **settings)
    again.load_state_dict(state)
    rest = [step.indices for step in again]
    assert again.iteration == 9 + len(rest)
    flat = [index for indices in taken + rest for index in indices]
    assert flat == [index for indices in straight for index in indices]


def test_a_step_without_numbers_is_left_out() -> None:
    loop = Loop()
    data = TensorDataset(torch.full((8, 3, 8, 8), float("nan")), torch.arange(8))
    before = loop.weights()
    for step in loop.fit(data, epochs=1, batch_size=4):
        assert not step.loss.isfinite()
    assert all(map(torch.equal, before, loop.weights()))


def test_with_a_batch_norm_no_sample_is_alone() -> None:
    loop = Loop(Shape(24, 3), batch_norm=True)
    settings = {"size": 16, "max_size": 32, "size_multiple": 8, "num_workers": 2}
    steps = list(
        loop.fit(SizedPictures(19), epochs=9, automation={"adjustment_frequency": 1}, **settings)
    )
    assert min(step.samples for step in steps) >= 2
    assert min(shape.batch_size for shape in loop.entered) >= 2
    assert_permutations([index for step in steps for index in step.indices], 19)


def test_gradients_can_be_clipped_before_the_step() -> None:
    loop = Loop()
    norms: list[float] = []

    def clip() -> None:
        norms.append(float(nn.utils.clip_grad_norm_(loop.network.parameters(), 1e-3)))
        left = nn.utils.get_total_norm(
            [p.grad for p in loop.network.parameters() if p.grad is not None]
        )
        assert left <= 1.001e-3

    list(loop.fit(Pictures(), epochs=1, batch_size=4, before_step=clip))
    assert min(norms) > 1e-3


def test_real_memory_of_this_process_is_watched() -> None:
    loop = Loop()
    loop.memory = SimulatedMemory(card(Shape(2048, 2048)))  # notes, and never fails
    fit = fit_memory(
        loop.loss, loop.network, loop.optimizer, Pictures(), epochs=2, batch_size=4, limit_gib=8
    )
    steps = list(fit)
    assert all(0 < step.used_share < 1 for step in steps)
    assert Counter(index for step in steps for index in step.indices) == dict.fromkeys(range(20), 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 16}, r"give collate\(samples, size\)"),
        ({"max_size": 16}, "max_size without size"),
        ({"size": 32, "max_size": 16, "collate": cut}, "no lq_size is possible"),
        ({"epochs": 0}, "expected more than 0"),
        ({"automation": {"pac": "ramp"}}, "automation: .*pac"),
        ({"automation": {"target_vram_usage": 2}}, "target_vram_usage"),
    ],
)
def test_what_cannot_be_is_said(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        Loop().fit(Pictures(), **settings)


def test_an_empty_dataset_is_said() -> None:
    with pytest.raises(OptionsError, match="the dataset is empty"):
        Loop().fit([])
