"""A recipe with a generator and a critic, as small as can be: it shows what a phase owns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from traiNNer.models import Chunk, Losses, Objective, RestorationModel, Role
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime


def build_critic() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3)
    )


class TwoPhases(RestorationModel):
    """The generator makes a picture and is judged by pixels and by the critic; the critic tells
    the very same picture from GT.

    Attributes:
        generated: batch sizes that went through the generator.
        judged: indices of the samples that each attempt of the critic's phase saw.
    """

    def __init__(self, options: TrainingOptions, runtime: Runtime, network: nn.Module) -> None:
        super().__init__(options, runtime, network)
        self.net_d = self.add_network("net_d", build_critic(), section="network_d")
        self.add_network("teacher", nn.Conv2d(3, 3, 1), Role.FROZEN)
        self.generated: list[int] = []
        self.judged: list[list[int]] = []
        optim = options.train.optim_g
        generator = Objective(self.generator_losses)
        critic = Objective(self.critic_losses)
        self.add_phase("generator", network.parameters(), [generator], optim)
        self.add_phase("critic", self.net_d.module.parameters(), [critic], optim, "train.optim_d")

    def generate(self, chunk: Chunk) -> Tensor:
        self.generated.append(len(chunk.batch))
        with self.runtime.autocast():
            return self.main.module(chunk.enter(chunk.batch.pair[0])).float()

    def judge(self, picture: Tensor) -> Tensor:
        with self.runtime.autocast():
            return self.net_d.module(picture).float()

    def generator_losses(self, chunk: Chunk) -> Losses:
        sr = self.generate(chunk)
        chunk.remember("sr", sr)
        gt = chunk.batch.pair[1]
        return {"l1": (sr - gt).abs().mean(), "gan": -0.01 * self.judge(sr).mean()}

    def critic_losses(self, chunk: Chunk) -> Losses:
        self.judged.append(list(chunk.batch.indices))
        sr = chunk.recall("sr")
        if sr is None:
            with torch.no_grad():
                sr = self.generate(chunk)
        gt = chunk.batch.pair[1]
        # Of two equal halves the last bias would get no gradient but rounding.
        return {"real": -self.judge(gt).mean(), "fake": 0.5 * self.judge(sr).mean()}
