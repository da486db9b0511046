"""Distances that were fitted to what people see: LPIPS and DISTS. What was fitted comes with
torchmetrics; the network below them is torchvision's, from a file.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.losses.perceptual import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    frozen_features,
    weights_file,
)
from traiNNer.losses.pixel import PairLoss
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import LOSSES

# Behind the activations of torchvision's networks, as both papers have it.
_ALEXNET = ("features.1", "features.4", "features.7", "features.9", "features.11")
_VGG16 = ("features.3", "features.8", "features.15", "features.22", "features.29")
_NODES = {"alexnet": _ALEXNET, "vgg16": _VGG16}
# The file of torchmetrics that belongs to each.
_FITTED = {"alexnet": "lpips_models/alex.pth", "vgg16": "lpips_models/vgg.pth"}
_DISTS = "dists_models/weights.pt"
# Pixels of a side that leave one behind the last pooling before the last layer.
_SIDES = {"alexnet": 31, "vgg16": 16}
# Against division by nothing; those of the papers' programs.
_LPIPS_EPS = 1e-8
_DISTS_EPS = 1e-6
_POOLING_EPS = 1e-12

Backbone = Literal["alexnet", "vgg16"]


class _Distance(PairLoss):
    """What both have in common: the network, and the pictures that it wants."""

    def __init__(self, features: nn.Module, side: int) -> None:
        super().__init__()
        self.features = features
        self._min_side = side
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION).view(3, 1, 1))

    @property
    def min_side(self) -> int:
        """Pixels that each side of an output must have at least."""
        return self._min_side

    def _features_of(self, pictures: Tensor) -> list[Tensor]:
        normalized = (pictures - self.get_buffer("mean")) / self.get_buffer("deviation")
        return list(self.features(normalized).values())


@LOSSES.register("lpips", aliases=("LPIPSLoss",))
class LPIPSLoss(_Distance):
    """Learned perceptual image patch similarity (version 0.1), 0 for identical pictures.

    Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric",
    2018.

    Args:
        backbone: alexnet, with which results are reported, or vgg16, which is better to train with.
        weights: file of the backbone's weights as torchvision has them. Left out: the one in
            torchvision's cache. Nothing is fetched.

    Raises:
        OptionsError: if there is no file of weights.
    """

    @staticmethod
    def least_side(backbone: Backbone = "vgg16", weights: str | None = None) -> int:
        """Pixels that each side must have at least, without building the network; it is checked
        that its weights are there.

        Raises:
            OptionsError: if they are not.
        """
        weights_file(backbone, weights)
        return _SIDES[backbone]

    def __init__(self, backbone: Backbone = "vgg16", weights: str | None = None) -> None:
        nodes = _NODES[backbone]
        super().__init__(frozen_features(backbone, nodes, weights), _SIDES[backbone])
        fitted = load_fitted(_FITTED[backbone])
        for number in range(len(nodes)):
            self.register_buffer(f"fitted{number}", fitted[f"lin{number}.model.1.weight"])

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The mean over the pictures."""
        self.require_side(sr)
        made = self._features_of(sr)
        with torch.no_grad():
            wanted = self._features_of(gt)
        total = torch.zeros((), device=sr.device)
        for number, (ours, theirs) in enumerate(zip(made, wanted, strict=True)):
            squares = (_unit(ours) - _unit(theirs)).square()
            total = total + F.conv2d(squares, self.get_buffer(f"fitted{number}")).mean()
        return total


def _unit(features: Tensor) -> Tensor:
    """Each place's vector with length 1."""
    return features / (features.square().sum(dim=1, keepdim=True) + _LPIPS_EPS).sqrt()


@LOSSES.register("dists", aliases=("DISTSLoss",))
class DISTSLoss(_Distance):
    """Deep image structure and texture similarity, 0 for identical pictures. It forgives textures
    that are alike and not the same.

    Source: Ding et al., "Image quality assessment: unifying structure and texture similarity",
    2020.

    Args:
        weights: file of vgg16's weights as torchvision has them. Left out: the one in torchvision's
            cache. Nothing is fetched.

    Raises:
        OptionsError: if there is no file of weights.
    """

    @staticmethod
    def least_side(weights: str | None = None) -> int:
        """Pixels that each side must have at least, without building the network; it is checked
        that its weights are there.

        Raises:
            OptionsError: if they are not.
        """
        weights_file("vgg16", weights)
        return _SIDES["vgg16"]

    def __init__(self, weights: str | None = None) -> None:
        features = frozen_features("vgg16", _VGG16, weights, pooling=L2Pool)
        super().__init__(features, _SIDES["vgg16"])
        fitted = load_fitted(_DISTS)
        total = fitted["alpha"].sum() + fitted["beta"].sum()
        self.register_buffer("alpha", fitted["alpha"] / total)
        self.register_buffer("beta", fitted["beta"] / total)

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The mean over the pictures."""
        self.require_side(sr)
        made = [sr, *self._features_of(sr)]
        with torch.no_grad():
            wanted = [gt, *self._features_of(gt)]
        channels = [features.shape[1] for features in made]
        alphas = self.get_buffer("alpha").split(channels, dim=1)
        betas = self.get_buffer("beta").split(channels, dim=1)
        similarity = torch.zeros(len(sr), device=sr.device)
        for ours, theirs, alpha, beta in zip(made, wanted, alphas, betas, strict=True):
            texture, structure = _similarities(ours, theirs)
            similarity = similarity + (alpha * texture + beta * structure).sum(dim=(1, 2, 3))
        return 1 - similarity.mean()


def _similarities(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Of texture, by the means, and of structure, by the covariance: (B, C, 1, 1) each."""
    places = (2, 3)
    mean = ours.mean(places, keepdim=True)
    other_mean = theirs.mean(places, keepdim=True)
    texture = (2 * mean * other_mean + _DISTS_EPS) / (mean**2 + other_mean**2 + _DISTS_EPS)
    variance = (ours - mean).square().mean(places, keepdim=True)
    other_variance = (theirs - other_mean).square().mean(places, keepdim=True)
    covariance = (ours * theirs).mean(places, keepdim=True) - mean * other_mean
    structure = (2 * covariance + _DISTS_EPS) / (variance + other_variance + _DISTS_EPS)
    return texture, structure


class L2Pool(nn.Module):
    """In place of a pooling by the largest value: the root of blurred squares, which aliases
    less (Hénaff and Simoncelli, 2016).
    """

    def __init__(self) -> None:
        super().__init__()
        window = torch.from_numpy(np.hanning(5)[1:-1]).float()
        kernel = window[:, None] * window[None, :]
        self.register_buffer("kernel", (kernel / kernel.sum())[None, None])

    def forward(self, features: Tensor) -> Tensor:
        """Half as high and half as wide."""
        channels = features.shape[1]
        kernel = self.get_buffer("kernel").expand(channels, 1, -1, -1)
        blurred = F.conv2d(features.square(), kernel, stride=2, padding=1, groups=channels)
        return (blurred + _POOLING_EPS).sqrt()


def load_fitted(name: str) -> dict[str, Tensor]:
    """What was fitted to people's judgements: a file of torchmetrics.

    Raises:
        OptionsError: if this torchmetrics does not have it.
    """
    spec = find_spec("torchmetrics")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "functional" / "image" / name
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise OptionsError(
            f"this torchmetrics has no {name}: pip install 'torchmetrics>=1.8'"
        ) from error
