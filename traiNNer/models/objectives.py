"""What a phase makes smaller, and how its gradients come about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from traiNNer.data import Batch
from traiNNer.models.chunks import Chunk, Memo
from traiNNer.models.rewind import Rewind
from traiNNer.models.step import Losses
from traiNNer.utils.shape import Shape

View = Callable[[Batch], Batch]


@dataclass
class Accumulated:
    """What the chunks of an attempt came to."""

    losses: Losses = field(default_factory=dict)
    per_sample: dict[str, list[Tensor]] = field(default_factory=dict)
    shape: Shape = field(default_factory=lambda: Shape(0, 0))
    pixels: int = 0
    samples: int = 0
    alignment: Tensor | None = None

    def add_losses(self, losses: Losses, weight: float) -> None:
        """Take in losses whose share of the step is `weight`."""
        for label, loss in losses.items():
            mean = loss.detach() * weight
            self.losses[label] = self.losses[label] + mean if label in self.losses else mean

    def add_chunk(self, chunk: Chunk, label: Callable[[str], str]) -> None:
        """Take in what went through."""
        for name, values in chunk.per_sample.items():
            self.per_sample.setdefault(label(name), []).append(values)
        entered = chunk.entered or Shape(chunk.batch.lq_size, len(chunk.batch))
        self.shape = max(self.shape, entered, key=Shape.pixels)
        self.pixels += chunk.batch.pixels
        self.samples += len(chunk.batch)

    def joined_per_sample(self) -> Losses:
        """`(B,)` by label, in the order of the step's samples."""
        return {label: torch.cat(parts) for label, parts in self.per_sample.items()}


@dataclass(frozen=True)
class Portion:
    """Some of a step's samples, on the device, and where what comes of them goes.

    Attributes:
        batch: prepared: float32 in [0, 1] on the device.
        first: the place of its first sample in the step.
        weight: its share of the step.
        memo: outputs of earlier phases.
        wants_per_sample: whether the losses of each sample are asked for.
        scale: makes of a loss what backward is called on.
        accumulated: of the step.
    """

    batch: Batch
    first: int
    weight: float
    memo: Memo
    wants_per_sample: bool
    scale: Callable[[Tensor], Tensor]
    accumulated: Accumulated

    def chunk(self, view: View | None) -> Chunk:
        """What the losses see of it. Samples are judged one by one as they are, not in views."""
        batch = self.batch if view is None else view(self.batch)
        wants_per_sample = self.wants_per_sample and batch is self.batch
        return Chunk(batch, self.first, self.memo, wants_per_sample)

    def backward(self, losses: Losses, weight: float) -> None:
        """Add the gradients of the sum of `losses`, times `weight`."""
        total = sum(losses.values(), start=torch.zeros((), device=self.batch.device))
        self.scale(total * (self.weight * weight)).backward()


@dataclass(frozen=True)
class Objective:
    """What a phase makes smaller.

    Attributes:
        losses: from a chunk on the device to the weighted losses by label.
        name: goes before the labels where a phase has several objectives.
        view: what of a prepared batch it looks at, for example the same samples at another size;
            None takes the batch as it is. One view at a time is worked on, so that a step over
            several sizes needs the memory of the largest one.
        weight: in the sum of the phase's objectives.
    """

    losses: Callable[[Chunk], Losses]
    name: str = ""
    view: View | None = None
    weight: float = 1.0

    def label(self, label: str) -> str:
        """The label of a loss in the log."""
        return f"{self.name}_{label}" if self.name else label

    def accumulate(self, portion: Portion) -> None:
        """Add the gradients of a portion."""
        chunk = portion.chunk(self.view)
        losses = self.losses(chunk)
        portion.backward(losses, self.weight)
        named = {self.label(name): loss for name, loss in losses.items()}
        portion.accumulated.add_losses(named, portion.weight * self.weight)
        portion.accumulated.add_chunk(chunk, self.label)


@dataclass
class CoupledObjective:
    """Losses of several views of the same samples that look at all of their outputs at once.

    The views of `at_once` go through the network with their graphs. The others go through it
    without one; the gradient of the losses with respect to each output is kept, and each of these
    views goes through once more and receives it, with the random numbers and the statistics of the
    first time. So the gradient is exact, running statistics are updated once for each view, and the
    memory is that of the graphs of `at_once` and the outputs.

    Attributes:
        views: the first one is the largest.
        output: what the network makes of a chunk, float32.
        losses: from all chunks and outputs, in the order of `views`, to the weighted losses by
            label.
        network: that `output` runs through.
        at_once: places in `views` whose graphs are held at once: the more, the less time and the
            more memory.
    """

    views: tuple[View, ...]
    output: Callable[[Chunk], Tensor]
    losses: Callable[[Sequence[Chunk], Sequence[Tensor]], Losses]
    network: nn.Module
    at_once: tuple[int, ...] = (0,)
    _rewinds: list[Rewind] = field(init=False, default_factory=list)

    def accumulate(self, portion: Portion) -> None:
        """Add the gradients of a portion."""
        device = portion.batch.device
        chunks = [portion.chunk(view) for view in self.views]
        outputs: list[Tensor] = []
        again: list[tuple[Chunk, Tensor, Rewind]] = []
        for place, chunk in enumerate(chunks):
            if place in self.at_once:
                outputs.append(self.output(chunk))
                continue
            before = self._mark(len(again), device)
            with torch.no_grad():
                leaf = self.output(chunk)
            outputs.append(leaf.requires_grad_())
            again.append((chunk, leaf, before))
        losses = self.losses(chunks, outputs)
        portion.backward(losses, 1.0)
        portion.accumulated.add_losses(losses, portion.weight)
        # The graphs are gone, and their outputs need not stay either.
        outputs.clear()
        if again:
            self._pass_on(again, device)
        for chunk in chunks:
            portion.accumulated.add_chunk(chunk, str)

    def _pass_on(self, again: Sequence[tuple[Chunk, Tensor, Rewind]], device: torch.device) -> None:
        """The gradients of outputs that were made without a graph."""
        after = self._mark(len(again), device)
        for chunk, leaf, before in again:
            before.restore()
            self.output(chunk).backward(leaf.grad)
        after.restore()

    def _mark(self, number: int, device: torch.device) -> Rewind:
        """The way back to here; one for each number, made once."""
        if number == len(self._rewinds):
            self._rewinds.append(Rewind([self.network], device))
        self._rewinds[number].mark()
        return self._rewinds[number]


AnyObjective = Objective | CoupledObjective
