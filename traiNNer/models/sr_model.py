"""The plain recipe: one network, pixel losses."""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from torch import Tensor, nn

from traiNNer.data import Batch
from traiNNer.models.base_model import BaseModel, Phase
from traiNNer.optim import build_optimizer
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime

log = logging.getLogger(__name__)


class SRModel(BaseModel):
    """Trains `network_g` on pairs of LQ and GT images, or of clips.

    A clip is `(B, T, 3, h, w)`; GT is that of its middle frame or of all its frames, as the network
    makes them. To the losses every frame is an image.

    Args:
        options: the checked options.
        runtime: device and precision.
        network: the network to train, as `network_g` describes it.
    """

    def __init__(self, options: TrainingOptions, runtime: Runtime, network: nn.Module) -> None:
        super().__init__(options, runtime)
        self.net_g = runtime.place(network).train()
        self.ema_g = self.make_ema(self.net_g)
        self._forward_g = torch.compile(self.net_g) if runtime.compile else self.net_g
        self._criteria = [
            (label, loss.loss_weight, cast(nn.Module, loss.entry(**loss.params)).to(runtime.device))
            for label, loss in options.labelled_losses.items()
        ]
        optim = options.train.optim_g
        optimizer = build_optimizer(
            optim.type, self.net_g.parameters(), optim.params, runtime.device
        )
        self.phases = [
            Phase("generator", optimizer, self._generator_losses, self.make_scheduler(optimizer))
        ]

    def _generator_losses(self, batch: Batch) -> dict[str, Tensor]:
        self.note_received(batch.lq)
        with self.runtime.autocast():
            sr = self._forward_g(batch.lq)
        assert batch.gt is not None
        sr, gt = (frames.flatten(0, -4) for frames in (sr.float(), batch.gt))
        return {label: weight * loss(sr, gt) for label, weight, loss in self._criteria}

    def after_step(self) -> None:
        if self.ema_g is not None:
            self.ema_g.update_parameters(self.net_g)

    @property
    def network(self) -> nn.Module:
        return self.net_g

    @property
    def evaluated_network(self) -> nn.Module:
        return self.net_g if self.ema_g is None else self.ema_g.module

    @property
    def networks(self) -> dict[str, nn.Module]:
        averaged = {} if self.ema_g is None else {"net_g_ema": self.ema_g.module}
        return {"net_g": self.net_g, **averaged}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "ema_updates": 0 if self.ema_g is None else int(self.ema_g.n_averaged)
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.ema_g is not None:
            self.ema_g.n_averaged.fill_(int(state["ema_updates"]))
