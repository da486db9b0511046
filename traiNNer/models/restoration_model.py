"""What recipes share that turn images into images: whole pictures through the network."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from traiNNer.archs.facts import NetworkFacts
from traiNNer.models.base_model import BaseModel
from traiNNer.models.tiles import tile_settings
from traiNNer.models.upscaler import Upscaler
from traiNNer.options.recipes import Task
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime


class RestorationModel(BaseModel):
    """A recipe for images and clips.

    Args:
        options: the checked options.
        runtime: device and precision.
        network: the main one.
    """

    task: ClassVar[Task | None] = "restoration"

    def __init__(self, options: TrainingOptions, runtime: Runtime, network: nn.Module) -> None:
        super().__init__(options, runtime, network)
        described = options.network_g
        facts = NetworkFacts.from_spec(described.entry, options.scale, described.params)
        self._upscaler = Upscaler(runtime, tile_settings(facts, options.val))

    def upscale(self, lq: Tensor) -> Tensor:
        """Process whole images as the validation does: the average where there is one, autocast,
        tiles where they are needed.

        Args:
            lq: `(B, 3, H, W)`, or clips `(B, T, 3, H, W)`, in [0, 1], on any device.

        Returns:
            `(B, 3, H * scale, W * scale)`, or with T before the 3 where the network makes every
            frame of a clip; float32, not clamped, on the device of `lq`.
        """
        network = self.networks.evaluated(self.main).module
        was_training = network.training
        network.eval()
        try:
            return self._upscaler(network, lq)
        finally:
            network.train(was_training)
