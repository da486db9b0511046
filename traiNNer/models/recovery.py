"""Going back to before a failed attempt, and trying again with less memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm

from traiNNer.data import Batch
from traiNNer.utils.arithmetic import round_down
from traiNNer.utils.errors import TrainingError
from traiNNer.utils.text import gib

log = logging.getLogger(__name__)


class Rewind:
    """What an attempt at a phase changes besides gradients: random generators, running statistics,
    power iterations.

    Weights and optimizer state are not copied, for that would take the memory that is missing. They
    need not be: state that a failed first step began is dropped, and a fused step allocates nothing
    but that. Whether another one stopped after it had changed something is known from the tensors'
    version counters.

    Args:
        networks: those that the attempt runs through.
        device: where they are.
        optimizer: the one that the attempt steps.
    """

    def __init__(
        self, networks: Iterable[nn.Module], device: torch.device, optimizer: torch.optim.Optimizer
    ) -> None:
        self._device = device
        self._optimizer = optimizer
        self._cpu_state = torch.get_rng_state()
        self._cuda_state = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self._buffers: list[tuple[Tensor, Tensor]] = [
            (buffer, buffer.clone())
            for network in networks
            for buffer in _changing_buffers(network)
        ]
        self._with_state = set(optimizer.state)
        self._version = self._count_changes()

    def restore(self) -> None:
        """Undo what has happened since.

        Raises:
            TrainingError: if the optimizer stopped half-way, after it had changed weights.
        """
        if self._count_changes() != self._version:
            raise TrainingError(
                f"out of memory half-way through the step of {type(self._optimizer).__name__}: "
                "some weights are changed and others not, so it cannot be repeated. The last "
                "checkpoint is good: go on with --auto_resume and a lower target_vram_usage or "
                "batch_size_per_gpu, or take AdamW, whose step needs no memory"
            )
        for parameter in set(self._optimizer.state) - self._with_state:
            del self._optimizer.state[parameter]
        torch.set_rng_state(self._cpu_state)
        if self._cuda_state is not None:
            torch.cuda.set_rng_state(self._cuda_state, self._device)
        for buffer, before in self._buffers:
            buffer.copy_(before)

    def _count_changes(self) -> int:
        """How often weights, and the state that they had when the attempt began, were changed so
        far.
        """
        state = self._optimizer.state
        weights = sum(p._version for group in self._optimizer.param_groups for p in group["params"])
        slots = (slot for parameter in self._with_state for slot in state[parameter].values())
        return weights + sum(slot._version for slot in slots if isinstance(slot, Tensor))


def _changing_buffers(network: nn.Module) -> Iterable[Tensor]:
    """The buffers that training forward passes write to; masks and position indices are none of
    these.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm | _SpectralNorm):
            yield from module.buffers(recurse=False)


def smaller_chunks(
    chunks: Sequence[Batch], smallest_lq_size: int, multiple: int
) -> list[Batch] | None:
    """The same samples in chunks of half the memory; None if they cannot be made smaller.

    Chunks of several samples are halved. Single samples are cropped to half their side, LQ and GT
    aligned.

    Args:
        chunks: of the failed attempt.
        smallest_lq_size: side in LQ pixels below which nothing is cropped.
        multiple: what the side must be a multiple of.
    """
    if any(len(chunk) > 1 for chunk in chunks):
        return [
            part
            for chunk in chunks
            for part in (chunk.split(len(chunk) // 2) if len(chunk) > 1 else (chunk,))
        ]
    half = max(smallest_lq_size, round_down(chunks[0].lq_size // 2, multiple))
    if half >= chunks[0].lq_size:
        return None
    return [chunk.crop(half) for chunk in chunks]


def describe_needs(
    networks: Iterable[nn.Module], phases: Iterable[Any], device: torch.device
) -> str:
    """What is there before any activation, and what the process holds, in GiB, for messages."""
    phases = list(phases)
    weights = sum(tensor.nbytes for network in networks for tensor in network.state_dict().values())
    gradients = sum(p.nbytes for phase in phases for p in phase.parameters)
    slots = (
        s for phase in phases for state in phase.optimizer.state.values() for s in state.values()
    )
    state = sum(slot.nbytes for slot in slots if isinstance(slot, Tensor))
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        held = f"{gib(torch.cuda.memory_reserved(device))} are held of {gib(total)}, of which {gib(free)} are free"
    else:
        held = f"the process holds {gib(psutil.Process().memory_info().rss)}"
    return f"weights take {gib(weights)}, gradients {gib(gradients)}, optimizer state {gib(state)}; {held}"


def release_memory(device: torch.device) -> None:
    """Give back what an abandoned attempt left in the caches."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
