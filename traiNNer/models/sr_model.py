"""The plain recipe: one network, pixel losses, and a discriminator if the options name one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from traiNNer.archs import build_network
from traiNNer.losses.gan import GANLoss
from traiNNer.models.adversary import OUTPUT, Adversary
from traiNNer.models.chunks import Chunk
from traiNNer.models.criteria import Criteria
from traiNNer.models.networks import Role
from traiNNer.models.objectives import Objective
from traiNNer.models.restoration_model import RestorationModel
from traiNNer.models.several_sizes import NetworkLosses, objectives_of
from traiNNer.models.step import DIFFICULTY, Losses
from traiNNer.models.teacher import Teacher
from traiNNer.options.distillation import DistillationOptions
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.registry import DIFFICULTIES, RECIPES


@RECIPES.register("SRModel")
class SRModel(RestorationModel):
    """Trains `network_g` on pairs of LQ and GT images, or of clips; with `network_d` against a
    discriminator, in a second phase.

    A clip is `(B, T, 3, h, w)`; GT is that of its middle frame or of all its frames, as the network
    makes them. To the losses every frame is an image.

    Args:
        options: the checked options.
        runtime: device and precision.
        network: the network to train, as `network_g` describes it.
    """

    def __init__(self, options: TrainingOptions, runtime: Runtime, network: nn.Module) -> None:
        super().__init__(options, runtime, network)
        module = self.main.module
        compared: list[tuple[str, float, nn.Module]] = []
        adversarial: list[tuple[str, float, GANLoss]] = []
        for label, loss in options.labelled_losses.items():
            criterion = loss.entry(**loss.params).to(runtime.device)
            self.criteria.append(criterion)
            if isinstance(criterion, GANLoss):
                adversarial.append((label, loss.loss_weight, criterion))
            else:
                compared.append((label, loss.loss_weight, criterion))
        with_sharp = [label for label, loss in options.labelled_losses.items() if loss.gt_usm]
        self._criteria = Criteria(tuple(compared), frozenset(with_sharp))
        asked = options.datasets.train.difficulty
        self._difficulty = None if asked is None else DIFFICULTIES[asked]
        self._adversary = self._add_adversary(adversarial)
        self._teacher = self._add_teacher()
        generator = self.add_phase(
            "generator",
            module.parameters(),
            objectives_of(options, NetworkLosses(module, self._output, self._losses)),
            options.train.optim_g,
        )
        if self._adversary is not None and options.train.optim_d is not None:
            generator.every = options.train.net_d_iters
            generator.begins_after = options.train.net_d_init_iters
            self.add_phase(
                "discriminator",
                self._adversary.network.module.parameters(),
                [Objective(self._adversary.told)],
                options.train.optim_d,
                "train.optim_d",
            )

    def _add_adversary(self, losses: list[tuple[str, float, GANLoss]]) -> Adversary | None:
        described = self.options.network_d
        if described is None:
            return None
        module = described.entry(**described.params)
        network = self.add_network("net_d", module, section="network_d")
        return Adversary(network, losses, self.runtime, self._output)

    def _add_teacher(self) -> Teacher | None:
        described = self.options.network_g_teacher
        if described is None:
            return None
        module = build_network(described.type, scale=self.options.scale, **described.params)
        section = "network_g_teacher"
        network = self.add_network("net_g_teacher", module, Role.FROZEN, section)
        taught = self.options.train.distillation or DistillationOptions()
        return Teacher(network, taught, self.runtime, self._part_done)

    def _part_done(self) -> float:
        """Of the run, from 0 to 1, before this step."""
        return self.length.done(self.work) / self.length.total

    def _output(self, chunk: Chunk) -> Tensor:
        lq, _ = chunk.batch.pair
        with self.runtime.autocast():
            return self.forward_main(chunk.enter(lq)).float()

    def _losses(self, chunk: Chunk, sr: Tensor) -> Losses:
        _, gt = chunk.batch.pair
        # To the losses, which are computed in float32, every frame is an image.
        frames = sr.flatten(0, -4)
        truth = targets = gt.flatten(0, -4)
        taught: Losses = {}
        share = 0.0 if self._teacher is None else self._teacher.share
        if self._teacher is not None and share:
            picture = self._teacher.picture(chunk.batch.pair[0]).flatten(0, -4)
            if self._teacher.is_beside:
                beside = self._criteria(frames, picture).items()
                taught = {f"{label}_teacher": share * loss for label, loss in beside}
            else:
                targets = torch.lerp(truth, picture, share)
        losses = self._criteria(frames, targets) | taught
        if chunk.wants_per_sample:
            chunk.per_sample = self._criteria.of_each(frames.detach(), targets, len(chunk.batch))
            if self._difficulty is not None:
                chunk.per_sample[DIFFICULTY] = self._difficulty_of_each(chunk, sr.detach())
        if self._adversary is not None:
            chunk.remember(OUTPUT, sr)
            losses |= self._adversary.deceived(frames, truth)
        return losses

    def _difficulty_of_each(self, chunk: Chunk, sr: Tensor) -> Tensor:
        assert self._difficulty is not None, "somebody asks"
        lq, gt = chunk.batch.pair
        if lq.ndim > 4:
            # Of a clip the frame in the middle, which all targets have.
            lq = lq[:, lq.shape[1] // 2]
            gt, sr = (t[:, t.shape[1] // 2] if t.ndim > 4 else t for t in (gt, sr))
        return self._difficulty(lq, gt, sr)
