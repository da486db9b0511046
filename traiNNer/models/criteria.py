"""The losses of the options, built: what a recipe makes smaller, by label."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from traiNNer.models.step import Losses


@dataclass(frozen=True)
class Criteria:
    """Losses of an output and its target.

    Attributes:
        weighted: label, weight, loss.
    """

    weighted: tuple[tuple[str, float, nn.Module], ...]

    def __call__(self, output: Tensor, target: Tensor) -> Losses:
        """The weighted losses by label, scalars."""
        return {label: weight * loss(output, target) for label, weight, loss in self.weighted}

    @torch.no_grad()
    def of_each(self, output: Tensor, target: Tensor, samples: int) -> Losses:
        """`(samples,)` by label: the loss of each sample alone, over all of its frames."""
        pairs = zip(output.chunk(samples), target.chunk(samples), strict=True)
        losses = [self(own_output, own_target) for own_output, own_target in pairs]
        return {label: torch.stack([loss[label] for loss in losses]) for label in losses[0]}
