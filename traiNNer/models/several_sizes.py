"""Objectives of a step that works at several sizes of the same samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from traiNNer.data import Batch, materialize_scale
from traiNNer.losses.scale_consistency import ConsistencyType, ScaleConsistency
from traiNNer.models.chunks import Chunk
from traiNNer.models.objectives import AnyObjective, CoupledObjective, Objective
from traiNNer.models.step import Losses
from traiNNer.options.recipes import Task
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.patch_scales import PatchScales

# How outputs are compared where the options do not say.
DEFAULTS: dict[Task | None, ConsistencyType] = {
    "restoration": "charbonnier",
    "classification": "kl_divergence",
    None: "mse",
}


@dataclass(frozen=True)
class NetworkLosses:
    """A network and its losses at one size, of which objectives at several are made.

    Attributes:
        network: that `output` runs through.
        output: what it makes of a chunk, float32.
        losses: of a chunk and what was made of it, weighted, by label.
    """

    network: nn.Module
    output: Callable[[Chunk], Tensor]
    losses: Callable[[Chunk, Tensor], Losses]

    def alone(self, chunk: Chunk) -> Losses:
        """The losses of one size."""
        return self.losses(chunk, self.output(chunk))


def objectives_of(options: TrainingOptions, parts: NetworkLosses) -> list[AnyObjective]:
    """The objectives of a phase at the sizes that the options ask for: one for each size, or one
    of all where a term couples them.
    """
    scales = options.patch_scales
    if scales is None:
        return [Objective(parts.alone)]
    count = len(scales.scales)
    views = tuple(partial(_at, scales, number) for number in range(count))
    weights = scale_weights(options)
    consistency = options.train.scale_consistency
    if consistency is None or not consistency.weight:
        pairs = zip(views, weights, strict=True)
        return [Objective(parts.alone, view=view, weight=weight) for view, weight in pairs]
    term = ScaleConsistency(consistency.weight, consistency.type or DEFAULTS[options.task])
    joined = partial(_joined, parts, weights, term)
    at_once = (0,) if consistency.recompute else tuple(range(count))
    return [CoupledObjective(views, parts.output, joined, parts.network, at_once)]


def scale_weights(options: TrainingOptions) -> list[float]:
    """What each size counts, the largest first; 1 in all."""
    scales = options.datasets.train.scales or []
    chosen = options.train.scale_weights
    if chosen == "pixels":
        given = [float(scale**2) for scale in scales]
    elif chosen == "equal":
        given = [1.0] * len(scales)
    else:
        given = list(chosen)
    ordered = [weight for _, weight in sorted(zip(scales, given, strict=True), reverse=True)]
    return [weight / sum(ordered) for weight in ordered]


def _at(scales: PatchScales, number: int, batch: Batch) -> Batch:
    """The samples at one of the sizes, 0 for the largest."""
    return materialize_scale(batch, scales.sides(batch.lq_size)[number])


def _joined(
    parts: NetworkLosses,
    weights: Sequence[float],
    consistency: ScaleConsistency,
    chunks: Sequence[Chunk],
    outputs: Sequence[Tensor],
) -> Losses:
    """The losses of all sizes by label, and the term between them."""
    losses: Losses = {}
    for weight, chunk, output in zip(weights, chunks, outputs, strict=True):
        for label, loss in parts.losses(chunk, output).items():
            losses[label] = losses.get(label, 0) + weight * loss
    # Clips are compared frame by frame; logits have no frames.
    compared = [out.flatten(0, -4) if out.ndim > 2 else out for out in outputs]
    return losses | {"scale_consistency": consistency(compared)}
