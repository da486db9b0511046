"""An optimizer's step that running out of memory neither repeats nor leaves half done."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from traiNNer.models.memory_needs import release_memory, with_second_try
from traiNNer.optim.optimizers import is_torchs
from traiNNer.utils.errors import TrainingError
from traiNNer.utils.out_of_memory import first_line, is_out_of_memory

log = logging.getLogger(__name__)
# Weights that are changed at once: the copies beside them take at most 50 MB in float32 with the
# two moments of Adam, and most networks are a few bundles.
BUNDLE = 2**22
# Further tries at weights that cannot be parted: another program may have what is missing, for a
# moment.
MOST_REPEATS = 3

Groups = list[dict[str, Any]]


def decide(
    optimizer: torch.optim.Optimizer, skipped: Tensor, device: torch.device
) -> bool | Tensor:
    """Who decides whether a step is made. A fused step on CUDA takes no memory once its moments are
    there, and the device itself can leave it out: nothing waits.

    Args:
        optimizer: with gradients.
        skipped: whether they are not finite, a flag on the device.
        device: where the weights are.

    Returns:
        For `change_weights`: what was decided, or what the device will look at.
    """
    return skipped.float() if _takes_no_memory(optimizer, device) else bool(skipped)


def change_weights(
    optimizer: torch.optim.Optimizer, skipped: bool | Tensor, device: torch.device
) -> int:
    """Step `optimizer` once, whatever it takes, unless `skipped`.

    The weights are changed in bundles. Where memory runs out, the bundle is put back, what is not
    in use is given back, and halves of it are tried; what was changed before is not touched again.
    An optimizer that is not torch's may look at all weights at once, so for it they are one bundle.

    Args:
        optimizer: with gradients.
        skipped: what `decide` gave.
        device: where the weights are.

    Returns:
        How often memory ran out.

    Raises:
        TrainingError: if the step of a single weight does not fit; others are changed by then.
    """
    on_device = isinstance(skipped, Tensor)
    if on_device:
        # Fused kernels read this and change nothing where it is 1. torch does not declare it.
        setattr(optimizer, "found_inf", skipped)  # noqa: B010
    elif skipped:
        return 0
    groups = optimizer.param_groups
    divisible = is_torchs(optimizer)
    bundles = _bundles(groups, BUNDLE) if divisible else [groups]
    failures = 0
    repeats = 0
    try:
        while bundles:
            optimizer.param_groups = bundles[0]
            complaint = _try_step(optimizer, device, with_copies=not on_device)
            if complaint is None:
                del bundles[0]
                repeats = 0
                continue
            failures += 1
            release_memory(device)
            size = _size(bundles[0])
            halves = _bundles(bundles[0], size // 2) if divisible else bundles[:1]
            if len(halves) == 1 and repeats == MOST_REPEATS:
                raise _no_room(optimizer, device, complaint)
            # One weight, or weights that cannot be parted: again with what was given back.
            repeats = repeats + 1 if len(halves) == 1 else 0
            bundles[:1] = halves
            log.warning("out of memory while weights are changed: tried again (%s)", complaint)
    finally:
        optimizer.param_groups = groups
        if on_device:
            delattr(optimizer, "found_inf")
    return failures


def _listed(slot: Any) -> Any:
    """What an optimizer remembers under one name; a list is one of its own."""
    return list(slot) if isinstance(slot, list | tuple) else slot


def _takes_no_memory(optimizer: torch.optim.Optimizer, device: torch.device) -> bool:
    """Whether the step is fused on CUDA and has its moments: the first step makes them, and leaves
    the momentum of SGD unwritten where the device skips it.
    """
    if device.type != "cuda" or not all(group.get("fused") for group in optimizer.param_groups):
        return False
    return all(weight in optimizer.state for weight in _weights(optimizer.param_groups))


def _weights(groups: Groups) -> list[nn.Parameter]:
    """Those that a step changes."""
    return [weight for group in groups for weight in group["params"] if weight.grad is not None]


def _size(groups: Groups) -> int:
    return sum(weight.numel() for weight in _weights(groups))


def _bundles(groups: Groups, most: int) -> list[Groups]:
    """The weights of `groups`, with the groups' settings, in portions of `most` elements, or of one
    weight that is larger.
    """
    if _size(groups) <= most:
        return [groups]
    bundles: list[Groups] = []
    room = 0
    for group in groups:
        portion: list[nn.Parameter] | None = None
        for weight in _weights([group]):
            if not bundles or room < weight.numel():
                bundles.append([])
                room = most
                portion = None
            if portion is None:
                portion = []
                bundles[-1].append(group | {"params": portion})
            portion.append(weight)
            room -= weight.numel()
    return bundles


def _try_step(
    optimizer: torch.optim.Optimizer, device: torch.device, *, with_copies: bool
) -> str | None:
    """Step the optimizer's present weights; all is as before where memory runs out.

    Returns:
        What torch said then; None where the step is done.
    """
    undo: _Undo | None = None
    try:
        if with_copies:
            undo = _Undo(optimizer)
        optimizer.step()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if undo is not None:
            with_second_try(undo.restore, device, "putting weights back")
        return first_line(error)
    return None


class _Undo:
    """Copies of what a step changes.

    Args:
        optimizer: is about to step the weights of its present groups.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._weights = _weights(optimizer.param_groups)
        # The state of a weight that has none yet is made by the step.
        self._states = {
            weight: {key: _listed(slot) for key, slot in optimizer.state[weight].items()}
            for weight in self._weights
            if weight in optimizer.state
        }
        changing: list[Tensor] = list(self._weights)
        if not is_torchs(optimizer):
            # Others work in the gradients, and count in their groups.
            changing += [weight.grad for weight in self._weights if weight.grad is not None]
        self._settings = [(group, dict(group)) for group in optimizer.param_groups]
        for state in self._states.values():
            for slot in state.values():
                parts = slot if isinstance(slot, list) else [slot]
                changing += [part for part in parts if isinstance(part, Tensor)]
        self._copies = [(tensor, tensor.detach().clone()) for tensor in changing]

    @torch.no_grad()
    def restore(self) -> None:
        """All is as it was."""
        for tensor, copy in self._copies:
            tensor.copy_(copy)
        for group, settings in self._settings:
            group.clear()
            group.update(settings)
        for weight in self._weights:
            if weight in self._states:
                self._optimizer.state[weight] = self._states[weight]
            else:
                self._optimizer.state.pop(weight, None)


def _no_room(
    optimizer: torch.optim.Optimizer, device: torch.device, complaint: str
) -> TrainingError:
    name = type(optimizer).__name__
    return TrainingError(
        f"out of memory on {device} half-way through the step of {name}: some weights are changed "
        f"and others not ({complaint}). Go on from the last checkpoint with a lower "
        "target_vram_usage or batch_size_per_gpu, or end other programs that use the memory."
    )
