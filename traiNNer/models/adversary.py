"""What a discriminator adds to a recipe: its network, its phase, and a loss of the generator's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from traiNNer.losses.gan import GANLoss, slope_penalty
from traiNNer.models.chunks import Chunk
from traiNNer.models.networks import Network
from traiNNer.models.step import Losses
from traiNNer.utils.device import Runtime

# What the generator's phase remembers of its pictures.
OUTPUT = "output"


class Adversary:
    """Tells what the generator made from GT.

    Args:
        network: the discriminator.
        losses: of the options, by label, with their weights.
        runtime: precision.
        generate: makes pictures of a chunk's LQ, where the generator's phase has not.
    """

    def __init__(
        self,
        network: Network,
        losses: list[tuple[str, float, GANLoss]],
        runtime: Runtime,
        generate: Callable[[Chunk], Tensor],
    ) -> None:
        self.network = network
        self._losses = losses
        self._runtime = runtime
        self._generate = generate

    def deceived(self, pictures: Tensor, targets: Tensor) -> Losses:
        """The generator's losses, weighted, by label.

        Args:
            pictures: that it made, `(B, 3, H, W)`.
            targets: GT, of the same shape.
        """
        # The discriminator's own gradients are for its own phase.
        self.network.module.requires_grad_(False)
        logits = self._judge(pictures)
        real = None
        if any(loss.relativistic for _, _, loss in self._losses):
            with torch.no_grad():
                real = self._judge(targets)
        return {
            label: weight * loss.for_generator(logits, real) for label, weight, loss in self._losses
        }

    def told(self, chunk: Chunk) -> Losses:
        """The discriminator's losses: of GT, and of what the generator made of the same samples."""
        self.network.module.requires_grad_(True)
        _, gt = chunk.batch.pair
        made = chunk.recall(OUTPUT)
        if made is None:
            with torch.no_grad():
                made = self._generate(chunk)
        pictures = gt.flatten(0, -4)
        copies = made.detach().flatten(0, -4)
        r1_weight = sum(loss.r1_weight for _, _, loss in self._losses)
        r2_weight = sum(loss.r2_weight for _, _, loss in self._losses)
        real, at_real = self._judge_slope(pictures, r1_weight)
        fake, at_fake = self._judge_slope(copies, r2_weight)
        losses: Losses = {}
        for label, _, loss in self._losses:
            losses[f"{label}_d_real"] = loss.for_discriminator(real, is_real=True, others=fake)
            losses[f"{label}_d_fake"] = loss.for_discriminator(fake, is_real=False, others=real)
        penalties = {"d_r1": at_real, "d_r2": at_fake}
        return losses | {name: slope for name, slope in penalties.items() if slope is not None}

    def _judge_slope(self, pictures: Tensor, weight: float) -> tuple[Tensor, Tensor | None]:
        """Logits, and the weighted penalty on the slope at these pictures; None without one."""
        if not weight:
            return self._judge(pictures), None
        # In float32: a slope is a gradient, and gradients of it are taken once more.
        pictures = pictures.detach().requires_grad_()
        with torch.autocast(pictures.device.type, enabled=False):
            logits = self.network.module(pictures)
            return logits, weight * slope_penalty(logits, pictures)

    def _judge(self, pictures: Tensor) -> Tensor:
        with self._runtime.autocast():
            return self.network.module(pictures).float()
