"""Between which shapes a run may move, before the automation's own options narrow it: from options
and images.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from traiNNer.automations import ShapeBounds
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.arithmetic import ceil_div, round_down, round_up

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
    smallest_patch, loss = options.smallest_patch
    least = max(spec.min_size, multiple)
    bounds = ShapeBounds(
        min_lq_size=round_up(max(least, smallest_patch), multiple),
        min_lq_due_to=f"the loss {loss}" if smallest_patch > least else "the network",
        max_lq_size=max(round_down(largest_lq_size, multiple), train.lq_size),
        size_multiple=multiple,
        min_batch_size=spec.min_batch,
        frames=clip_frames(options) or 1,
        elements_per_pixel=max(elements_per_pixel, 3 * options.scale**2),
        max_lq_due_to=due_to,
    )
    if samples is None:
        return bounds
    return replace(bounds, max_batch_size=samples, max_batch_due_to="effective_batch_size")


def clip_frames(options: TrainingOptions) -> int | None:
    """clip_size of a training set that has one; None of images."""
    section = options.datasets.train
    clip_size = inspect.signature(section.entry).parameters.get("clip_size")
    return None if clip_size is None else section.params.get("clip_size", clip_size.default)


def sample_size(options: TrainingOptions, side: int) -> tuple[int, ...]:
    """(3, side, side) of a training image, (T, 3, side, side) of a clip."""
    frames = clip_frames(options)
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
