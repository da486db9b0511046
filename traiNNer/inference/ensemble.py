"""Several results of the same picture, averaged: of several networks, and of the picture turned and
mirrored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from traiNNer.archs.facts import NetworkFacts
from traiNNer.inference.network import RunningNetwork, on_device, open_network
from traiNNer.inference.residents import ensemble_runtimes, find_places
from traiNNer.options.schema import TestOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import OptionsError

log = logging.getLogger(__name__)


class Enlarger(Protocol):
    """What makes results: a network, or several of them."""

    @property
    def facts(self) -> NetworkFacts:
        """What it takes and makes."""
        ...

    def __call__(self, lq: Tensor) -> Tensor:
        """`(B, 3, H, W)`, or clips, to float32 results in main memory, not clamped."""
        ...


@dataclass(frozen=True)
class Agreement:
    """A mean of several results, and how far they are from each other.

    Attributes:
        mean: float32.
        deviation: the standard deviation at each value of it, of the same shape.
    """

    mean: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class Member:
    """A network of an ensemble, and its share of the mean."""

    network: RunningNetwork
    weight: float


class Ensemble:
    """The weighted mean of what several networks make of a picture, or one makes of it turned and
    mirrored.

    Args:
        members: of one scale, all for images or all for the same clips.
        turned: send each picture through in all eight positions.
        devices: so many members, each on a device of its own, work at the same time.

    Raises:
        OptionsError: if the networks do not go together.
    """

    def __init__(self, members: Sequence[Member], *, turned: bool, devices: int = 1) -> None:
        self.members = tuple(members)
        self.turned = turned
        self.devices = devices
        for member in self.members[1:]:
            _require_alike(self.members[0].network.facts, member.network.facts)

    @property
    def facts(self) -> NetworkFacts:
        """What all of them take and make."""
        return self.members[0].network.facts

    def __call__(self, lq: Tensor) -> Tensor:
        """The mean, float32, not clamped, in main memory.

        Args:
            lq: `(B, 3, H, W)` or clips `(B, T, 3, H, W)`, in [0, 1].
        """
        return self.judge(lq, deviation=False).mean

    def judge(self, lq: Tensor, *, deviation: bool = True) -> Agreement:
        """The mean, and with `deviation` how far the results are from it; else zeros of one
        value.
        """
        mean = torch.zeros(())
        spread = torch.zeros(())
        total = 0.0
        # Mean and spread are carried on from result to result (West, 1979): all of them at once
        # would take many times the picture's memory, and a sum of squares would cancel.
        for weight, result in self._results(lq):
            total += weight
            step = (result - mean) * (weight / total)
            if deviation:
                spread = spread + weight * (result - mean) * (result - mean - step)
            mean = mean + step
        return Agreement(mean, (spread / total).clamp(min=0).sqrt())

    def _results(self, lq: Tensor) -> Iterator[tuple[float, Tensor]]:
        positions = 8 if self.turned else 1
        for first in range(0, len(self.members), self.devices):
            group = self.members[first : first + self.devices]
            with ExitStack() as stack:
                for network in (member.network for member in group):
                    runtime = network.upscaler.runtime
                    stack.enter_context(on_device(network.network, runtime, stays=network.stays))
                for position in range(positions):
                    results = _side_by_side(group, turned(lq, position))
                    for member, result in zip(group, results, strict=True):
                        yield member.weight / positions, turned_back(result, position)


def _side_by_side(members: Sequence[Member], lq: Tensor) -> list[Tensor]:
    if len(members) == 1:
        return [members[0].network(lq)]
    with ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(lambda member: member.network(lq), members))


def turned(picture: Tensor, position: int) -> Tensor:
    """`(..., H, W)` in one of eight positions: turned `position % 4` times by 90 degrees, mirrored
    before that from 4 on.
    """
    mirrored = picture.flip(-1) if position >= 4 else picture
    return mirrored.rot90(position % 4, (-2, -1))


def turned_back(picture: Tensor, position: int) -> Tensor:
    """Undo `turned`."""
    upright = picture.rot90(-(position % 4), (-2, -1))
    return upright.flip(-1) if position >= 4 else upright


def open_enlarger(options: TestOptions, runtime: Runtime) -> Enlarger:
    """The network that the options name, or the ensemble.

    Raises:
        CheckpointError: if a checkpoint cannot be read, is of no known architecture, or has another
            scale than expected.
        OptionsError: if networks do not go together.
    """
    if options.ensemble is None:
        network = RunningNetwork.start(open_network(options), options, runtime)
        turns = options.val.self_ensemble == "x8"
        return Ensemble([Member(network, 1.0)], turned=True) if turns else network
    each = [
        options.model_copy(
            update={
                "path": options.path.model_copy(update={"pretrain_network_g": section.checkpoint})
            }
        )
        for section in options.ensemble
    ]
    opened = [open_network(own) for own in each]
    runtimes = ensemble_runtimes(options, runtime, len(opened))
    places = find_places([one.network for one in opened], runtimes, options.parallel)
    members = [
        Member(RunningNetwork.start(one, own, place.runtime, stays=place.stays), section.weight)
        for one, own, place, section in zip(opened, each, places, options.ensemble, strict=True)
    ]
    names = ", ".join(f"{Path(m.checkpoint).name} x {m.weight:g}" for m in options.ensemble)
    log.info("the mean of %s%s", names, ", each x8" if options.val.self_ensemble == "x8" else "")
    turns = options.val.self_ensemble == "x8"
    return Ensemble(members, turned=turns, devices=len(runtimes))


def _require_alike(first: NetworkFacts, other: NetworkFacts) -> None:
    same = ("scale", "temporal", "target", "frames")
    for name in same:
        ours, theirs = getattr(first, name), getattr(other, name)
        if ours != theirs:
            raise OptionsError(
                f"ensemble: {first.name} has {name} {ours} and {other.name} has {theirs}; the "
                "members of an ensemble take and make the same"
            )
