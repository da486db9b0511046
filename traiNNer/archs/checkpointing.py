"""Gradient checkpointing: activations of a network's blocks are made again in the backward pass
instead of being kept (Chen et al., arXiv 1604.06174).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

# Part of the weights that the blocks of another class may miss, as convolutions between them.
ABOUT_AS_MANY = 0.8
# Buffers that a forward pass of these changes would change twice.
_CHANGED_BY_FORWARD = ("_u", "_v")


def checkpoint_blocks(network: nn.Module) -> int:
    """Have the blocks of a network keep their inputs alone while it is trained. Gradients are the
    same, and so are weights and their names.

    Returns:
        How many blocks; 0 where the network has none that could be.
    """
    blocks = find_blocks(network)
    for block in blocks:
        block.forward = partial(_forward, block, block.forward)
    return len(blocks)


def find_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks that a network is made of: of all classes of its own with two instances or more
    that hold about as many weights as any, the one with the fewest, outermost instances.
    """
    found: dict[type[nn.Module], list[nn.Module]] = {}
    inside: dict[type[nn.Module], set[nn.Module]] = {}
    for module in network.modules():
        kind = type(module)
        if module is network or kind.__module__.startswith("torch."):
            continue
        covered = inside.setdefault(kind, set())
        if module not in covered and not _changes_itself(module):
            found.setdefault(kind, []).append(module)
            covered.update(module.modules())
    repeated = [blocks for blocks in found.values() if len(blocks) > 1]
    most = max(map(_weights, repeated), default=0)
    whole = [blocks for blocks in repeated if _weights(blocks) >= ABOUT_AS_MANY * most]
    return min(whole, key=len, default=[])


def _weights(blocks: list[nn.Module]) -> int:
    return sum(p.numel() for block in blocks for p in block.parameters())


def _changes_itself(module: nn.Module) -> bool:
    """Whether a forward pass changes what the module holds: then it must not be made twice."""
    buffers = (name for name, _ in module.named_buffers())
    return any(isinstance(part, _BatchNorm) for part in module.modules()) or any(
        name.endswith(_CHANGED_BY_FORWARD) for name in buffers
    )


def _forward(block: nn.Module, forward: Any, *arguments: Any, **named: Any) -> Any:
    if not block.training or not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, **named)
