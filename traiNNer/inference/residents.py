"""Which device each network of an ensemble is on, and whether it stays there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from traiNNer.options.schema import TestOptions
from traiNNer.utils.device import Runtime

log = logging.getLogger(__name__)
# Share of a device's free memory that the weights of an ensemble may take. Pictures need the rest,
# and where that is little their tiles become smaller, which costs more than a copy of weights.
_SHARE_OF_WEIGHTS = 0.5


@dataclass(frozen=True)
class Place:
    """Where a network computes.

    Attributes:
        runtime: device and precision.
        stays: whether it stays on the device; else it waits in main memory for its turn.
    """

    runtime: Runtime
    stays: bool


def free_bytes(device: torch.device) -> float:
    """What the device has free; where weights are in main memory anyway, no bound."""
    if device.type != "cuda":
        return float("inf")
    free, _ = torch.cuda.mem_get_info(device)
    return free


def ensemble_runtimes(options: TestOptions, runtime: Runtime, members: int) -> list[Runtime]:
    """A runtime for each device that members of an ensemble may use: all CUDA devices, unless one
    is asked for.
    """
    if options.num_gpu != "auto" or runtime.device.type != "cuda":
        return [runtime]
    count = min(members, torch.cuda.device_count())
    return [replace(runtime, device=torch.device("cuda", number)) for number in range(count)]


def find_places(
    networks: Sequence[nn.Module],
    runtimes: Sequence[Runtime],
    parallel: Literal["auto"] | int,
    free: Callable[[torch.device], float] = free_bytes,
) -> list[Place]:
    """A place for each network. They go round the devices, and on each one the first stay.

    Args:
        networks: wherever they are now.
        runtimes: one for each device.
        parallel: how many are on a device at once, or auto: as many as half of its free memory
            holds.
        free: bytes that a device has left.
    """
    sizes = [_weight_bytes(network) for network in networks]
    places: dict[int, Place] = {}
    for first, runtime in enumerate(runtimes):
        numbers = range(first, len(networks), len(runtimes))
        own = [sizes[number] for number in numbers]
        if parallel == "auto":
            staying = _count_fitting(own, _SHARE_OF_WEIGHTS * free(runtime.device))
        else:
            # One of the places is for those that come and go.
            staying = len(own) if len(own) <= parallel else parallel - 1
        for order, number in enumerate(numbers):
            places[number] = Place(runtime, stays=order < staying)
    waiting = sum(not place.stays for place in places.values())
    if waiting:
        log.info("ensemble: %d of %d networks come to the device by turns", waiting, len(networks))
    return [places[number] for number in range(len(networks))]


def _count_fitting(sizes: Sequence[int], room: float) -> int:
    """How many of the first networks stay in so much room: all, or so many that the largest can
    come besides.
    """
    if sum(sizes) <= room:
        return len(sizes)
    room -= max(sizes)
    count = 0
    for size in sizes:
        room -= size
        if room < 0:
            break
        count += 1
    return count


def _weight_bytes(network: nn.Module) -> int:
    tensors = (*network.parameters(), *network.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
