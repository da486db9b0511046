"""A loss for targets that do not lie over the output: which features there are, not where."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.losses.perceptual import PerceptualLoss
from traiNNer.losses.pixel import PairLoss
from traiNNer.utils.registry import LOSSES

# The paper's layers of VGG-19.
_LAYERS = {"conv3_2": 1.0, "conv4_2": 1.0}
# Added to the nearest distance, so that equal features can be divided by it.
_NEAREST = 1e-5


@LOSSES.register("contextual", aliases=("ContextualLoss", "cx"))
class ContextualLoss(PairLoss):
    """For each feature of GT, how surely one of the output's is meant for it and for no other.

    Source: Mechrez et al., "The contextual loss for image transformation with non-aligned data",
    2018 (arXiv 1803.02077). Each picture is compared with its own GT alone.

    Args:
        backbone: a network of torchvision, as of `perceptual`.
        layers: layers and what each counts; left out: conv3_2 and conv4_2 of a VGG.
        bandwidth: how sharply the nearest feature is preferred; smaller is sharper.
        most_places: of a layer that are compared; of more, a grid of so many is taken. Memory
            grows with their square.
        weights: file of the backbone's weights, as of `perceptual`.

    Raises:
        OptionsError: for an unknown backbone or layer, or if there is no file of weights.
    """

    def __init__(
        self,
        backbone: str = "vgg19",
        layers: dict[str, float] | None = None,
        bandwidth: Annotated[float, Field(gt=0)] = 0.5,
        most_places: Annotated[int, Field(ge=16)] = 1024,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.features = PerceptualLoss(backbone, layers or _LAYERS, "l1", weights)
        self.bandwidth = bandwidth
        self.most_places = most_places

    @staticmethod
    def least_side(
        backbone: str = "vgg19",
        layers: dict[str, float] | None = None,
        bandwidth: float = 0.5,
        most_places: int = 1024,
        weights: str | None = None,
    ) -> int:
        """As of `perceptual`."""
        del bandwidth, most_places
        return PerceptualLoss.least_side(backbone, layers or _LAYERS, "l1", weights)

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """See the class.

        Raises:
            DataError: if a side is too short for the backbone.
        """
        return self.features.compare_layers(sr, gt, self._compare_features)

    @property
    def min_side(self) -> int:
        return self.features.min_side

    def _compare_features(self, made: Tensor, wanted: Tensor) -> Tensor:
        stride = math.ceil(math.sqrt(made.shape[-2] * made.shape[-1] / self.most_places))
        made, wanted = (each[..., ::stride, ::stride].flatten(2) for each in (made, wanted))
        return -torch.log(contextual_similarity(made, wanted, self.bandwidth)).mean()


def contextual_similarity(made: Tensor, wanted: Tensor, bandwidth: float) -> Tensor:
    """(B,) of sets of features (B, C, N) each, from 1 / N to 1."""
    center = wanted.mean(-1, keepdim=True)
    made, wanted = (F.normalize(each - center, dim=1) for each in (made, wanted))
    distances = (1 - torch.einsum("bcn,bcm->bnm", made, wanted)).clamp(min=0)
    nearest = distances.amin(-1, keepdim=True) + _NEAREST
    # The softmax is the paper's exponential and its norm, without overflow.
    shares = torch.softmax((1 - distances / nearest) / bandwidth, dim=-1)
    return shares.amax(1).mean(-1)
