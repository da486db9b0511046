"""The plain recipe: one network, pixel losses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from traiNNer.models.chunks import Chunk
from traiNNer.models.restoration_model import RestorationModel
from traiNNer.models.several_sizes import NetworkLosses, objectives_of
from traiNNer.models.step import Losses
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.registry import RECIPES


@RECIPES.register("SRModel")
class SRModel(RestorationModel):
    """Trains `network_g` on pairs of LQ and GT images, or of clips.

    A clip is `(B, T, 3, h, w)`; GT is that of its middle frame or of all its frames, as the network
    makes them. To the losses every frame is an image.

    Args:
        options: the checked options.
        runtime: device and precision.
        network: the network to train, as `network_g` describes it.
    """

    def __init__(self, options: TrainingOptions, runtime: Runtime, network: nn.Module) -> None:
        super().__init__(options, runtime, network)
        module = self.main.module
        self._forward_g: Callable[[Tensor], Tensor] = module
        if runtime.compile:
            self._forward_g = torch.compile(module)
        self._weighted_criteria: list[tuple[str, float, nn.Module]] = []
        for label, loss in options.labelled_losses.items():
            criterion = loss.entry(**loss.params).to(runtime.device)
            self.criteria.append(criterion)
            self._weighted_criteria.append((label, loss.loss_weight, criterion))
        self.add_phase(
            "generator",
            module.parameters(),
            objectives_of(options, NetworkLosses(module, self._output, self._pixel_losses)),
            options.train.optim_g,
        )

    def _output(self, chunk: Chunk) -> Tensor:
        lq, _ = chunk.batch.pair
        with self.runtime.autocast():
            return self._forward_g(chunk.enter(lq)).float()

    def _pixel_losses(self, chunk: Chunk, sr: Tensor) -> Losses:
        _, gt = chunk.batch.pair
        # To the losses, which are computed in float32, every frame is an image.
        frames = sr.flatten(0, -4)
        targets = gt.flatten(0, -4)
        losses = self._weighted_losses(frames, targets)
        if chunk.wants_per_sample:
            chunk.per_sample = self._losses_of_each(frames.detach(), targets, len(chunk.batch))
        return losses

    def _weighted_losses(self, sr: Tensor, gt: Tensor) -> Losses:
        return {
            label: weight * criterion(sr, gt)
            for label, weight, criterion in self._weighted_criteria
        }

    @torch.no_grad()
    def _losses_of_each(self, sr: Tensor, gt: Tensor, samples: int) -> Losses:
        """`(samples,)` by label: the loss of each sample alone, over all of its frames."""
        pairs = zip(sr.chunk(samples), gt.chunk(samples), strict=True)
        losses = [self._weighted_losses(own_sr, own_gt) for own_sr, own_gt in pairs]
        return {label: torch.stack([loss[label] for loss in losses]) for label in losses[0]}
