"""The recipe for networks that tell what a picture shows."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from traiNNer.losses.classes import BinaryCrossEntropyLoss
from traiNNer.models.base_model import BaseModel
from traiNNer.models.chunks import Chunk
from traiNNer.models.criteria import Criteria
from traiNNer.models.several_sizes import NetworkLosses, objectives_of
from traiNNer.models.step import Losses
from traiNNer.options.recipes import Task
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.registry import RECIPES


@RECIPES.register("classifier", aliases=("ClassifierModel",))
class ClassifierModel(BaseModel):
    """Trains `network_g` to tell the labels of pictures: of one class each, or of several.

    Args:
        options: the checked options.
        runtime: device and precision.
        network: from (B, 3, H, W) to logits (B, classes).
    """

    task: ClassVar[Task | None] = "classification"

    def __init__(self, options: TrainingOptions, runtime: Runtime, network: nn.Module) -> None:
        super().__init__(options, runtime, network)
        module = self.main.module
        losses = options.labelled_losses
        built = {label: loss.entry(**loss.params) for label, loss in losses.items()}
        self._criteria = Criteria(
            tuple((label, losses[label].loss_weight, loss) for label, loss in built.items())
        )
        self.criteria += built.values()
        # A binary loss asks of each class by itself.
        binary = any(isinstance(loss, BinaryCrossEntropyLoss) for loss in built.values())
        self.metadata["activation"] = "sigmoid" if binary else "softmax"
        self.metadata["lq_size"] = str(options.val.lq_size or options.datasets.train.lq_size)
        self.add_phase(
            "classifier",
            module.parameters(),
            objectives_of(options, NetworkLosses(module, self._logits, self._losses)),
            options.train.optim_g,
        )

    def _logits(self, chunk: Chunk) -> Tensor:
        pictures = chunk.batch.lq
        assert pictures is not None, "the dataset gives pictures"
        with self.runtime.autocast():
            return self.forward_main(chunk.enter(pictures)).float()

    def _losses(self, chunk: Chunk, logits: Tensor) -> Losses:
        labels = chunk.batch.labels
        assert labels is not None, "the dataset gives labels"
        if chunk.wants_per_sample:
            chunk.per_sample = self._criteria.of_each(logits.detach(), labels, len(chunk.batch))
        return self._criteria(logits, labels)

    @torch.no_grad()
    def classify(self, pictures: Tensor) -> Tensor:
        """(B, classes) probabilities in float32, in main memory, by the average where there is one.

        Args:
            pictures: (B, 3, H, W) in [0, 1], on any device.
        """
        network = self.networks.evaluated(self.main).module
        was_training = network.training
        network.eval()
        try:
            with self.runtime.autocast():
                logits = network(pictures.to(self.runtime.device))
        finally:
            network.train(was_training)
        return probabilities(logits, self.metadata["activation"]).cpu()


def probabilities(logits: Tensor, activation: str) -> Tensor:
    """What logits (B, classes) say, in float32.

    Args:
        logits: of any precision.
        activation: softmax, or sigmoid where each class is a question of its own.
    """
    return logits.float().sigmoid() if activation == "sigmoid" else logits.float().softmax(-1)
