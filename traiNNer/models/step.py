"""What a step is made of and what comes out of it. No result of a step is kept anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from traiNNer.utils.memory import MemoryReading
from traiNNer.utils.shape import Shape

Losses = dict[str, Tensor]
"""Weighted losses by label, scalars on the device."""
DIFFICULTY = "difficulty"
"""Beside the losses of each sample: how hard it is, of `DIFFICULTIES`."""


@dataclass(frozen=True)
class Retry:
    """A phase ran out of memory and was repeated with the same samples.

    Attributes:
        phase: its name.
        asked: the largest chunk of the first attempt, as the loader gave it.
        fitted: the largest chunk of the attempt that went through.
        failures: attempts that ran out of memory.
    """

    phase: str
    asked: Shape
    fitted: Shape
    failures: int


@dataclass(frozen=True)
class PhaseResult:
    """What one phase of a step did.

    Attributes:
        losses: means over the step's samples, scalars on the device.
        per_sample: `(B,)` in the order of the step's samples; empty unless it was asked for.
        shape: of the largest tensor that entered a trained network.
        pixels: LQ pixels that went through, of all views of the samples.
        learning_rate: that the optimizer used, of its first group of weights.
        skipped: whether the weights were left as they are, because gradients were not finite; a
            flag on the device.
        retry: None where the first attempt went through.
        reading: the memory of the attempt that went through; None where nobody measures.
        alignment: cosine between the gradients of two halves of the samples, where that was looked
            at; a scalar on the device.
    """

    losses: Mapping[str, Tensor]
    per_sample: Mapping[str, Tensor]
    shape: Shape
    pixels: int
    learning_rate: float
    skipped: Tensor
    retry: Retry | None = None
    reading: MemoryReading | None = None
    alignment: Tensor | None = None


@dataclass(frozen=True, slots=True)
class SampleVisit:
    """A sample as a step saw it.

    Attributes:
        index: of the element in the dataset.
        seed: of its request: with index and size it gives the same crop again.
        lq_size: side of the LQ crop in pixels.
        corner: top and left of the crop in the LQ image; None where that is not known.
    """

    index: int
    seed: int
    lq_size: int
    corner: tuple[int, int] | None


@dataclass(frozen=True)
class StepResult:
    """What really happened in a step; nothing has to be looked up elsewhere.

    Attributes:
        iteration: changes of the weights so far, this one included.
        samples: of all batches of the step.
        phases: what each phase did, by its name, in order.
        indices: of the samples' elements in the dataset, in the order of `per_sample`.
        visits: what was seen of each, in the same order; empty unless losses of each sample were
            asked for.
    """

    iteration: int
    samples: int
    phases: Mapping[str, PhaseResult]
    indices: tuple[int, ...]
    visits: tuple[SampleVisit, ...] = ()

    @property
    def shape(self) -> Shape:
        """That of the largest tensor that entered a trained network: what is reported is what was
        received.
        """
        return max((phase.shape for phase in self.phases.values()), key=Shape.pixels)

    @property
    def pixels(self) -> int:
        """LQ pixels that the first phase worked on: later phases look at the same samples."""
        return next(iter(self.phases.values())).pixels

    @property
    def losses(self) -> dict[str, Tensor]:
        """Means of all phases by label, on the device."""
        return {
            label: loss for phase in self.phases.values() for label, loss in phase.losses.items()
        }

    @property
    def per_sample(self) -> dict[str, Tensor]:
        """`(B,)` by label, of all phases; empty unless it was asked for."""
        return {
            label: loss
            for phase in self.phases.values()
            for label, loss in phase.per_sample.items()
        }

    @property
    def alignment(self) -> Tensor | None:
        """What the first phase saw of the noise of its gradients; None where it did not look."""
        return next(iter(self.phases.values())).alignment

    @property
    def retries(self) -> tuple[Retry, ...]:
        """The phases that ran out of memory."""
        return tuple(phase.retry for phase in self.phases.values() if phase.retry is not None)

    @property
    def reading(self) -> MemoryReading | None:
        """The worst of all phases; None where nobody measures."""
        readings = [phase.reading for phase in self.phases.values() if phase.reading is not None]
        return MemoryReading.merged(readings) if readings else None
