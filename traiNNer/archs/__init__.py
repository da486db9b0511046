"""Generators: spandrel's architectures under names, with checked parameters, and the loading of
their weights.
"""

from __future__ import annotations

from torch import nn

from traiNNer.archs import catalogue as _catalogue  # noqa: F401 - fills the registry
from traiNNer.archs.spec import ArchSpec
from traiNNer.archs.table_classifiers import list_available_models
from traiNNer.utils.registry import ARCHS

__all__ = ["ArchSpec", "build_network", "list_available_models"]


def build_network(name: str, *, scale: int, **parameters: object) -> nn.Module:
    """The network of that name for `(B, 3, H, W)` to `(B, 3, H * scale, W * scale)`, with fresh
    weights.

    Raises:
        UnknownNameError: if there is no network of that name.
        OptionsError: if it cannot be built at that scale or with those parameters.
    """
    return ARCHS[name](scale=scale, **parameters)
