"""A loss of what a network that recognises things sees, instead of pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.losses.pixel import CharbonnierLoss, PairLoss
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.files import at_home
from traiNNer.utils.registry import LOSSES

Criterion = Literal["l1", "mse", "charbonnier"]
# Of each channel, with which torchvision's networks were trained.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
# Of the last convolution of each block of a VGG, before its activation: Wang et al., "Real-ESRGAN",
# 2021.
_BLOCK_WEIGHTS = (0.1, 0.1, 1.0, 1.0, 1.0)
# Convolutions in each of the five blocks; between blocks a pooling halves the sides.
_VGG_BLOCKS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
# The smallest side for other networks: five halvings leave a pixel.
_OTHERS_SIDE = 32
_CRITERIA = {"l1": F.l1_loss, "mse": F.mse_loss, "charbonnier": CharbonnierLoss().compare}


@LOSSES.register("perceptual", aliases=("PerceptualLoss", "vgg_perceptual", "perceptual_vgg"))
class PerceptualLoss(PairLoss):
    """Differences between the features of output and GT inside a network that was trained to
    recognise things. The network is frozen, and takes part in no checkpoint.

    Source: Johnson et al., "Perceptual losses for real-time style transfer and super-resolution",
    2016; the layers and their weights are those of Real-ESRGAN.

    Args:
        backbone: a network of torchvision: vgg19, vgg16, resnet50, convnext_tiny, ...
        layers: layers and what each counts. Of a VGG conv<block>_<number>, before the activation;
            of others the names of torchvision's feature extraction. Left out: the last convolution
            of each block of a VGG.
        criterion: how features are compared.
        weights: file of the backbone's weights as torchvision has them. Left out: the one in
            torchvision's cache. Nothing is fetched.

    Raises:
        OptionsError: for an unknown backbone or layer, or if there is no file of weights.
    """

    def __init__(
        self,
        backbone: str = "vgg19",
        layers: dict[str, float] | None = None,
        criterion: Criterion = "l1",
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.layers = layers or default_layers(backbone)
        self._min_side = self.least_side(backbone, layers, criterion, weights)
        self._nodes = {name: node_of(backbone, name) for name in self.layers}
        self._compare = _CRITERIA[criterion]
        self.features = frozen_features(backbone, tuple(self._nodes.values()), weights)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION).view(3, 1, 1))

    @staticmethod
    def least_side(
        backbone: str = "vgg19",
        layers: dict[str, float] | None = None,
        criterion: Criterion = "l1",
        weights: str | None = None,
    ) -> int:
        """Pixels that each side must have at least, without building the network; it is checked
        that there is one, and its weights.

        Raises:
            OptionsError: as the class does.
        """
        del criterion
        _require_backbone(backbone)
        names = layers or default_layers(backbone)
        for name in names:
            node_of(backbone, name)
        weights_file(backbone, weights)
        if backbone not in _VGG_BLOCKS:
            return _OTHERS_SIDE
        # A block is behind as many halvings as there are blocks before it.
        return 2 ** (max(int(name[4]) for name in names) - 1)

    @property
    def min_side(self) -> int:
        """Pixels that each side of an output must have at least."""
        return self._min_side

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The weighted sum over the layers of what `criterion` says of their features."""
        return self.compare_layers(sr, gt, self._compare)

    def compare_layers(
        self, sr: Tensor, gt: Tensor, criterion: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """The weighted sum over the layers of what any criterion says of their features.

        Raises:
            DataError: if a side is too short for the network.
        """
        self.require_side(sr)
        made = self.features(self._normalized(sr))
        with torch.no_grad():
            wanted = self.features(self._normalized(gt))
        total = torch.zeros((), device=sr.device)
        for name, weight in self.layers.items():
            node = self._nodes[name]
            total = total + weight * criterion(made[node], wanted[node])
        return total

    def _normalized(self, pictures: Tensor) -> Tensor:
        return (pictures - self.get_buffer("mean")) / self.get_buffer("deviation")


def default_layers(backbone: str) -> dict[str, float]:
    """Of a VGG the last convolution of each block, as Real-ESRGAN weighs them.

    Raises:
        OptionsError: for any other backbone.
    """
    if backbone not in _VGG_BLOCKS:
        raise OptionsError(f"perceptual with {backbone} needs layers, and what each counts")
    blocks = enumerate(zip(_VGG_BLOCKS[backbone], _BLOCK_WEIGHTS, strict=True), 1)
    return {f"conv{block}_{last}": weight for block, (last, weight) in blocks}


def node_of(backbone: str, layer: str) -> str:
    """What torchvision's feature extraction calls a layer.

    Raises:
        OptionsError: for a layer that a VGG does not have.
    """
    blocks = _VGG_BLOCKS.get(backbone)
    if blocks is None:
        return layer
    block, _, number = layer.removeprefix("conv").partition("_")
    known = [f"conv{b}_{n}" for b, count in enumerate(blocks, 1) for n in range(1, count + 1)]
    if layer not in known:
        raise OptionsError(f"{backbone} has no layer {layer!r}; it has: {', '.join(known)}")
    before = int(block) - 1
    # A convolution and its activation are two entries, a pooling is one.
    return f"features.{2 * (sum(blocks[:before]) + int(number) - 1) + before}"


def weights_file(backbone: str, given: str | None) -> Path:
    """The file of a backbone's weights.

    Raises:
        OptionsError: if there is none, saying where it is looked for.
    """
    if given is not None:
        path = Path(at_home(given))
        if not path.is_file():
            raise OptionsError(f"weights of {backbone}: there is no file {path}")
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / _file_name(backbone)
    if not path.is_file():
        raise OptionsError(
            f"the weights of {backbone} are not on this machine: put {path.name} (torchvision's, "
            f"of ImageNet) into {path.parent}, or name a file by `weights`; with a network, "
            f"`python -c \"import torchvision; torchvision.models.{backbone}(weights='DEFAULT')\"` "
            "fetches it"
        )
    return path


@cache
def _file_name(backbone: str) -> str:
    from torchvision.models import get_model_weights

    weights: Any = get_model_weights(backbone)
    return weights.DEFAULT.url.rpartition("/")[2]


@cache
def _require_backbone(backbone: str) -> None:
    # Imported late: a second that only those wait for who have such a loss.
    from torchvision import models

    known = models.list_models(models)
    if backbone not in known:
        some = ", ".join(name for name in known if name.startswith(("vgg", "resnet", "convnext")))
        raise OptionsError(
            f"torchvision has no network {backbone!r}; there are, for example: {some}"
        )


def frozen_features(
    backbone: str,
    nodes: tuple[str, ...],
    weights: str | None,
    pooling: type[nn.Module] | None = None,
) -> nn.Module:
    """From a picture, normalized as ImageNet's, to the features at `nodes` by name, frozen.

    Args:
        backbone: a network of torchvision.
        nodes: as its feature extraction calls them.
        weights: file of its weights; None for the one in torchvision's cache.
        pooling: takes the place of each pooling by the largest value; None leaves them.

    Raises:
        OptionsError: for weights that are not there or of something else, or an unknown node.
    """
    from torchvision import models
    from torchvision.models.feature_extraction import create_feature_extractor

    path = weights_file(backbone, weights)
    # Without memory: of most of these networks the larger part is a classifier that nobody asks.
    with torch.device("meta"):
        network = models.get_model(backbone, weights=None)
    in_features = all(node.startswith("features.") for node in nodes)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if in_features:
            state = {key: value for key, value in state.items() if key.startswith("features.")}
            for name, _ in list(network.named_children()):
                if name != "features":
                    setattr(network, name, nn.Identity())
        network.load_state_dict(state, assign=True)
    # A reader may trip in any way over a file that is something else.
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise OptionsError(f"{path} holds no weights of {backbone}: {reason}") from error
    for module in network.modules():
        # In place, it would change the features before it.
        if isinstance(module, nn.ReLU):
            module.inplace = False
        for name, child in list(module.named_children()):
            if pooling is not None and isinstance(child, nn.MaxPool2d):
                setattr(module, name, pooling())
    try:
        # Nobody looks inside of what is not torch's.
        leaves = {} if pooling is None else {"leaf_modules": [pooling]}
        names = list(dict.fromkeys(nodes))
        features = create_feature_extractor(network.eval(), names, tracer_kwargs=leaves)
    except ValueError as error:
        raise OptionsError(f"{backbone}: {error}") from error
    return features.requires_grad_(False).eval()
