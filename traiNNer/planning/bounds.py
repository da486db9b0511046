"""Between which shapes a run may move, before the automation's own options narrow it: from options
and images.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from traiNNer.automations import ShapeBounds
from traiNNer.automations.progressive_sizes import Stage, read_stages
from traiNNer.options.length import whole_amount
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.arithmetic import ceil_div, round_down, round_up
from traiNNer.utils.shape import Shape

# A step is no more than this part of a run whose length counts what is in a step: with fewer
# changes of the weights the run ends worse, whatever the memory holds.
LEAST_STEPS = 50
# Side in LQ pixels of a patch that tells how large a network's tensors are, no larger than the one
# of the options.
PROBE = 64


def shape_bounds(
    options: TrainingOptions,
    largest_lq_size: int,
    elements_per_pixel: int,
    due_to: str = "the images",
) -> ShapeBounds:
    """The shapes that the network and the losses take and the images allow.

    Args:
        options: the checked options.
        largest_lq_size: side in LQ pixels of the largest patch that the images allow.
        elements_per_pixel: elements of the largest tensor of a step for each LQ pixel of a frame.
        due_to: what bounds lq_size above, for messages.

    Raises:
        OptionsError: if there is no such shape.
    """
    spec = options.network_g.entry
    train = options.datasets.train
    multiple = spec.size_multiple
    samples = options.train.effective_batch_size
    smallest_patch, what = options.smallest_patch
    least = max(spec.min_size, multiple)
    smallest = round_up(max(least, smallest_patch), multiple)
    due_to_least = what if smallest_patch > least else "the network"
    if options.patch_scales is not None:
        smallest = options.patch_scales.smallest_patch(smallest)
        due_to_least = f"the smallest of scales and {due_to_least}"
    bounds = ShapeBounds(
        min_lq_size=smallest,
        min_lq_due_to=due_to_least,
        max_lq_size=max(round_down(largest_lq_size, multiple), train.lq_size),
        size_multiple=multiple,
        min_batch_size=spec.min_batch,
        frames=train.clip_frames or 1,
        elements_per_pixel=max(elements_per_pixel, 3 * options.scale**2),
        max_lq_due_to=due_to,
    )
    if samples is not None:
        bounds = replace(bounds, max_batch_size=samples, max_batch_due_to="effective_batch_size")
    return _bounded_by_length(bounds, options)


def stages_of(options: TrainingOptions) -> tuple[Stage, ...]:
    """The stages of a run whose patches grow by a plan, or the one of a run whose batches have
    random sizes, which is that of the largest; empty for any other.

    Raises:
        OptionsError: for stages that make no sense.
    """
    drawn = options.training_automations.active.get("RandomSizes")
    if drawn is not None:
        return (Stage(max(drawn["sizes"]), 1.0),)
    given = options.training_automations.active.get("ProgressiveSizes")
    return () if given is None else read_stages(given["stages"], whole_amount(options.length))


def first_shape(options: TrainingOptions) -> Shape:
    """What the automations begin to think from: the shape of the options, with the smallest patch
    of the stages where the run has such.
    """
    train = options.datasets.train
    sides = [stage.size for stage in stages_of(options)]
    return Shape(min([train.lq_size, *sides]), train.batch_size_per_gpu)


def _bounded_by_length(bounds: ShapeBounds, options: TrainingOptions) -> ShapeBounds:
    """The bounds within which a run that is as long as its samples or pixels keeps changes of the
    weights enough; never below the sizes of the options.
    """
    length = options.length
    data = options.datasets.train
    if length.key not in ("total_samples", "total_mpixels"):
        return bounds
    # What a step may have at most, in parts of what the options' own has.
    growth = max(1.0, length.total / LEAST_STEPS / length.step)
    due_to = f"{LEAST_STEPS} steps in the run"
    side = round_down(math.isqrt(int(data.lq_size**2 * growth)), bounds.size_multiple)
    if options.train.effective_batch_size is not None:
        if length.key == "total_samples" or side >= bounds.max_lq_size:
            return bounds
        return replace(bounds, max_lq_size=side, max_lq_due_to=due_to)
    if length.key == "total_samples":
        batch = int(data.batch_size_per_gpu * growth)
        if batch >= bounds.max_batch_size:
            return bounds
        return replace(bounds, max_batch_size=batch, max_batch_due_to=due_to)
    start = Shape(data.lq_size, data.batch_size_per_gpu).pixels(bounds.frames)
    return replace(bounds, max_pixels=int(start * growth), max_pixels_due_to=due_to)


def sample_size(options: TrainingOptions, side: int) -> tuple[int, ...]:
    """(3, side, side) of a training image, (T, 3, side, side) of a clip."""
    frames = options.datasets.train.clip_frames
    return (3, side, side) if frames is None else (frames, 3, side, side)


def probe_size(options: TrainingOptions) -> tuple[int, ...]:
    """Size of a small batch that tells how large a network's tensors are."""
    spec = options.network_g.entry
    multiple = options.network_g.entry.size_multiple
    side = max(spec.min_size, min(options.datasets.train.lq_size, PROBE))
    return 1, *sample_size(options, round_up(side, multiple))


@torch.no_grad()
def elements_per_pixel(network: nn.Module, lq: Tensor) -> int:
    """Elements of the largest tensor that a forward pass makes, for each LQ pixel of `lq`, rounded
    up.

    `lq` is (B, 3, H, W) or (B, T, 3, H, W); the pixels of all frames count.

    The network is in evaluation mode meanwhile, so statistics and random numbers stay as they are.
    """
    was_training = network.training
    network.eval()
    try:
        with _Largest() as largest:
            network(lq)
    finally:
        network.train(was_training)
    return ceil_div(largest.elements * lq.shape[-3], lq.numel())


class _Largest(TorchDispatchMode):
    """Notes the elements of the largest tensor that an operation made of one with a batch."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = (leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        self.elements = max([self.elements, *sizes])
        return result
