"""What a discriminator adds to a recipe: its network, its phase, and a loss of the generator's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from traiNNer.losses.gan import GANLoss
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

    def deceived(self, pictures: Tensor) -> Losses:
        """The generator's losses, weighted, by label.

        Args:
            pictures: that it made, `(B, 3, H, W)`.
        """
        # The discriminator's own gradients are for its own phase.
        self.network.module.requires_grad_(False)
        logits = self._judge(pictures)
        return {label: weight * loss.for_generator(logits) for label, weight, loss in self._losses}

    def told(self, chunk: Chunk) -> Losses:
        """The discriminator's losses: of GT, and of what the generator made of the same samples."""
        self.network.module.requires_grad_(True)
        _, gt = chunk.batch.pair
        made = chunk.recall(OUTPUT)
        if made is None:
            with torch.no_grad():
                made = self._generate(chunk)
        real = self._judge(gt.flatten(0, -4))
        fake = self._judge(made.detach().flatten(0, -4))
        losses: Losses = {}
        for label, _, loss in self._losses:
            losses[f"{label}_d_real"] = loss.for_discriminator(real, is_real=True)
            losses[f"{label}_d_fake"] = loss.for_discriminator(fake, is_real=False)
        return losses

    def _judge(self, pictures: Tensor) -> Tensor:
        with self._runtime.autocast():
            return self.network.module(pictures).float()
