"""How noisy the gradients of a step are: those of two halves of its samples, beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from traiNNer.data import Batch
from traiNNer.utils.arithmetic import ceil_div

# Iterations from one look to the next: often while the noise changes fast, rarely afterwards. A
# look costs no more than that a step is made in two halves, and a copy of the gradients.
EARLY = 500
EVERY_EARLY = 20
EVERY = 100


def is_time_to_look(iteration: int) -> bool:
    """Whether the noise is looked at in an iteration, counted from 1."""
    return iteration % (EVERY_EARLY if iteration <= EARLY else EVERY) == 0


def in_halves(chunks: Sequence[Batch], least: int) -> tuple[list[Batch], int]:
    """The same samples in chunks of which the first ones are half of them.

    Args:
        chunks: of a step.
        least: samples that the network needs at once.

    Returns:
        The chunks, and how many samples are in the first half; 0 where they are too few.
    """
    count = sum(map(len, chunks))
    half = ceil_div(count, 2)
    if count - half < least:
        return list(chunks), 0
    parts: list[Batch] = []
    seen = 0
    for chunk in chunks:
        cut = half - seen
        parts += chunk.split(cut) if 0 < cut < len(chunk) else [chunk]
        seen += len(chunk)
    return parts, half


def copy_gradients(weights: Sequence[nn.Parameter]) -> list[Tensor]:
    """As they are now."""
    return [weight.grad.clone() for weight in weights if weight.grad is not None]


def compare_halves(first: Sequence[Tensor], weights: Sequence[nn.Parameter]) -> Tensor | None:
    """The cosine of the angle between the gradients of two halves. Both are the true gradient and
    noise that is independent, so it tells what part is noise.

    Args:
        first: what `copy_gradients` gave.
        weights: with the gradients of both halves.

    Returns:
        A scalar on the device; None where the second half brought weights that the first one had
        not.
    """
    both = [weight.grad for weight in weights if weight.grad is not None]
    if len(both) != len(first):
        return None
    second = [whole - half for whole, half in zip(both, first, strict=True)]
    product = torch.stack([(one * other).sum() for one, other in zip(first, second, strict=True)])
    norms = nn.utils.get_total_norm(first) * nn.utils.get_total_norm(second)
    return product.sum() / norms
