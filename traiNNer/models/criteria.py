"""The losses of the options, built: what a recipe makes smaller, by label."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from traiNNer.models.step import Losses
from traiNNer.ops.sharpen import sharpened


@dataclass(frozen=True)
class Criteria:
    """Losses of an output and its target.

    Attributes:
        weighted: label, weight, loss.
        with_sharp: labels of the losses whose target is made sharper before.
    """

    weighted: tuple[tuple[str, float, nn.Module], ...]
    with_sharp: frozenset[str] = frozenset()

    def __call__(self, output: Tensor, target: Tensor) -> Losses:
        """The weighted losses by label, scalars."""
        sharp = sharpened(target) if self.with_sharp else target
        return {
            label: weight * loss(output, sharp if label in self.with_sharp else target)
            for label, weight, loss in self.weighted
        }

    @torch.no_grad()
    def of_each(self, output: Tensor, target: Tensor, samples: int) -> Losses:
        """`(samples,)` by label: the loss of each sample alone, over all of its frames."""
        pairs = zip(output.chunk(samples), target.chunk(samples), strict=True)
        losses = [self(own_output, own_target) for own_output, own_target in pairs]
        return {label: torch.stack([loss[label] for loss in losses]) for label in losses[0]}
