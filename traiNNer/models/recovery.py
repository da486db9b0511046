"""Going back to before a failed attempt, and trying again with less memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm

from traiNNer.data import Batch

log = logging.getLogger(__name__)


class Rewind:
    """What a forward pass changes besides gradients: random generators, running statistics, power iterations.

    Args:
        networks: those that the attempt runs through.
        device: where they are.
    """

    def __init__(self, networks: Iterable[nn.Module], device: torch.device) -> None:
        self._device = device
        self._cpu_state = torch.get_rng_state()
        self._cuda_state = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self._buffers: list[tuple[Tensor, Tensor]] = [
            (buffer, buffer.clone()) for network in networks for buffer in _changing_buffers(network)
        ]

    def restore(self) -> None:
        """Undo what has happened since."""
        torch.set_rng_state(self._cpu_state)
        if self._cuda_state is not None:
            torch.cuda.set_rng_state(self._cuda_state, self._device)
        for buffer, before in self._buffers:
            buffer.copy_(before)


def _changing_buffers(network: nn.Module) -> Iterable[Tensor]:
    """The buffers that training forward passes write to; masks and position indices are none of these."""
    for module in network.modules():
        if isinstance(module, _BatchNorm | _SpectralNorm):
            yield from module.buffers(recurse=False)


def smaller_chunks(chunks: Sequence[Batch], smallest_lq_size: int, multiple: int) -> list[Batch] | None:
    """The same samples in chunks of half the memory; None if they cannot be made smaller.

    Chunks of several samples are halved. Single samples are cropped to half their side, LQ and GT aligned.

    Args:
        chunks: of the failed attempt.
        smallest_lq_size: side in LQ pixels below which nothing is cropped.
        multiple: what the side must be a multiple of.
    """
    if any(len(chunk) > 1 for chunk in chunks):
        return [part for chunk in chunks for part in (chunk.split(len(chunk) // 2) if len(chunk) > 1 else (chunk,))]
    half = max(smallest_lq_size, chunks[0].lq_size // 2 // multiple * multiple)
    if half >= chunks[0].lq_size:
        return None
    return [chunk.crop(half) for chunk in chunks]


def release_memory(device: torch.device) -> None:
    """Give back what an abandoned attempt left in the caches."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
