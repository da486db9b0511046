"""Another network's pictures as targets (distillation, Hinton et al. 2015); with a share that falls
the way from an easier target to the true one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from traiNNer.models.networks import Network
from traiNNer.options.distillation import DistillationOptions
from traiNNer.utils.device import Runtime


class Teacher:
    """A network whose weights never change.

    Args:
        network: the teacher, in eval mode.
        options: how it takes part.
        runtime: precision.
        part_done: of the run, from 0 to 1; asked within a step, and the same for all of its chunks
            and repeats.
    """

    def __init__(
        self,
        network: Network,
        options: DistillationOptions,
        runtime: Runtime,
        part_done: Callable[[], float],
    ) -> None:
        self.network = network
        self.is_beside = options.mode == "beside"
        self._options = options
        self._runtime = runtime
        self._part_done = part_done
        network.module.requires_grad_(requires_grad=False)

    @property
    def share(self) -> float:
        """How much its pictures count now; at 0 it need not be asked."""
        share = self._options.share
        until = self._options.until
        return share if until is None else share * max(0.0, 1 - self._part_done() / until)

    @torch.no_grad()
    def picture(self, lq: Tensor) -> Tensor:
        """What it makes of LQ, float32; clips as the network that learns makes them."""
        with self._runtime.autocast():
            return self.network.module(lq).float()
