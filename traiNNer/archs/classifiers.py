"""torchvision's networks that tell what a picture shows, with fresh weights.

They take pictures (B, 3, H, W) in 0..1 and return logits (B, classes). The names of the weights are
torchvision's, so that its files of weights fit.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer

# Of ImageNet's pictures, which torchvision's weights expect to be taken off and divided by.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
# The square of this many patches has the positions that torchvision's transformers are born with:
# 224 pixels for patches of 16.
_GRID = 14


def build_classifier(name: str, num_classes: int = 1000) -> nn.Module:
    """A network of torchvision's by its name there.

    Args:
        name: for example "resnet18".
        num_classes: of the data set.
    """
    if name in _TRANSFORMERS:
        network: nn.Module = SizedVisionTransformer(num_classes=num_classes, **_TRANSFORMERS[name])
    else:
        network = _build(name, num_classes)
    # A hook and not a wrapper, which would change the names of the weights.
    network.register_forward_pre_hook(_normalize)
    return network


def _build(name: str, num_classes: int) -> nn.Module:
    builder = models.get_model_builder(name)
    arguments: dict[str, Any] = {"num_classes": num_classes}
    # Their second outputs are for training only, and no loss here asks for them.
    if name in ("googlenet", "inception_v3"):
        arguments |= {"aux_logits": False, "init_weights": True}
    with warnings.catch_warnings():
        # Of a slow way to draw the first weights.
        warnings.simplefilter("ignore", FutureWarning)
        return builder(weights=None, **arguments)


def _normalize(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    x, *others = arguments
    mean = torch.tensor(_MEAN, dtype=x.dtype, device=x.device).view(3, 1, 1)
    std = torch.tensor(_STD, dtype=x.dtype, device=x.device).view(3, 1, 1)
    return ((x - mean) / std, *others)


class SizedVisionTransformer(VisionTransformer):
    """A vision transformer for pictures of any size: its positions are stretched to the patches.

    Source: Dosovitskiy et al., "An image is worth 16x16 words", 2021, section 3.2.

    Args:
        patch_size: pixels of a patch's side.
        num_layers: blocks.
        num_heads: of each attention.
        hidden_dim: channels.
        mlp_dim: channels between the two layers behind each attention.
        num_classes: of the data set.
        grid: patches along each side that there are positions for.
    """

    def __init__(
        self,
        patch_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        mlp_dim: int,
        num_classes: int,
        grid: int = _GRID,
    ) -> None:
        super().__init__(
            image_size=grid * patch_size,
            patch_size=patch_size,
            num_layers=num_layers,
            num_heads=num_heads,
            hidden_dim=hidden_dim,
            mlp_dim=mlp_dim,
            num_classes=num_classes,
        )
        self._grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)`, sides multiples of the patch, to logits `(B, classes)`."""
        patches = self.conv_proj(x)
        rows, columns = patches.shape[-2:]
        tokens = patches.flatten(2).transpose(1, 2)
        first = self.class_token.expand(len(x), -1, -1)
        tokens = torch.cat([first, tokens], dim=1) + self._positions(rows, columns)
        encoded = self.encoder.layers(self.encoder.dropout(tokens))
        return self.heads(self.encoder.ln(encoded)[:, 0])

    def _positions(self, rows: int, columns: int) -> Tensor:
        """(1, 1 + rows * columns, channels): the stored ones where they fit."""
        stored = self.encoder.pos_embedding
        if (rows, columns) == (self._grid, self._grid):
            return stored
        grid = stored[:, 1:].transpose(1, 2).unflatten(2, (self._grid, self._grid))
        stretched = F.interpolate(grid, (rows, columns), mode="bicubic", antialias=True)
        return torch.cat([stored[:, :1], stretched.flatten(2).transpose(1, 2)], dim=1)


# torchvision's five, as its builders make them.
_TRANSFORMERS: dict[str, dict[str, int]] = {
    "vit_b_16": {
        "patch_size": 16,
        "num_layers": 12,
        "num_heads": 12,
        "hidden_dim": 768,
        "mlp_dim": 3072,
    },
    "vit_b_32": {
        "patch_size": 32,
        "num_layers": 12,
        "num_heads": 12,
        "hidden_dim": 768,
        "mlp_dim": 3072,
        "grid": 7,
    },
    "vit_l_16": {
        "patch_size": 16,
        "num_layers": 24,
        "num_heads": 16,
        "hidden_dim": 1024,
        "mlp_dim": 4096,
    },
    "vit_l_32": {
        "patch_size": 32,
        "num_layers": 24,
        "num_heads": 16,
        "hidden_dim": 1024,
        "mlp_dim": 4096,
        "grid": 7,
    },
    "vit_h_14": {
        "patch_size": 14,
        "num_layers": 32,
        "num_heads": 16,
        "hidden_dim": 1280,
        "mlp_dim": 5120,
        "grid": 16,
    },
}
