"""Optimizers for dense weights that need no closure."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from traiNNer.optim import more_optimizers
from traiNNer.optim.more_optimizers import LibraryOptimizer
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import OPTIMIZERS

# Left out are LBFGS, which needs a closure, SparseAdam, which takes sparse gradients only, and what
# younger versions of torch add.
NAMES = (
    "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "Adafactor", "RMSprop",
    "Rprop", "ASGD", "SGD",
)  # fmt: skip
for _name in NAMES:
    OPTIMIZERS.add(_name, getattr(torch.optim, _name))
for _name in more_optimizers.NAMES:
    OPTIMIZERS.add(_name, LibraryOptimizer(_name))

# Devices on which torch has fused kernels; a fused step can be skipped on the device, without a
# synchronisation.
FUSED_ON = {"cuda", "cpu"}


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], options: dict[str, Any], device: torch.device
) -> torch.optim.Optimizer:
    """The optimizer `name` over the parameters that want gradients.

    It is the fused version where torch has one for the optimizer and the device, unless the options
    choose one.

    Raises:
        OptionsError: for values that the optimizer refuses.
    """
    cls = OPTIMIZERS[name]
    trained = [p for p in parameters if p.requires_grad]
    # torch refuses two of these at once.
    choices = {"foreach", "fused", "capturable", "differentiable"}
    if (
        "fused" in inspect.signature(cls).parameters
        and device.type in FUSED_ON
        and not choices & options.keys()
    ):
        options = {**options, "fused": True}
    try:
        return cls(trained, **options)
    except (ValueError, RuntimeError, TypeError) as error:
        raise OptionsError(
            f"optimizer {name}: {error}; see --explain train.optim_g.{name}"
        ) from error


def is_torchs(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its ways are known: it changes weights and what it remembers of them alone, each
    weight by itself.
    """
    return type(optimizer).__module__.startswith("torch.optim")
