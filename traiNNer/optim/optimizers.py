"""Optimizers for dense weights that need no closure."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from traiNNer.optim import more_optimizers
from traiNNer.optim.more_optimizers import LibraryOptimizer
from traiNNer.options.entries import OptimizerOptions
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
    name: str,
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    options: dict[str, Any],
    device: torch.device,
) -> torch.optim.Optimizer:
    """The optimizer `name` over the parameters that want gradients, or over groups of them.

    It is the fused version where torch has one for the optimizer and the device, unless the options
    choose one.

    Raises:
        OptionsError: for values that the optimizer refuses.
    """
    cls = OPTIMIZERS[name]
    trained = [p for p in parameters if isinstance(p, dict) or p.requires_grad]
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


def group_by_rate(
    named: Iterable[tuple[str, nn.Parameter]], optimizer: OptimizerOptions, where: str
) -> list[dict[str, Any]]:
    """The weights that want gradients in groups of one learning rate each: those of no part first,
    then those of each part.

    Args:
        named: the weights and their names.
        optimizer: its section of the options, with `lr_mul`.
        where: that stands, for messages.

    Raises:
        OptionsError: if no weight's name has a part in it.
    """
    factors = optimizer.lr_mul
    parts: dict[str | None, list[nn.Parameter]] = {part: [] for part in (None, *factors)}
    for name, weight in named:
        if weight.requires_grad:
            part = next((part for part in factors if part in name), None)
            parts[part].append(weight)
    unused = [part for part in factors if not parts[part]]
    if unused:
        raise OptionsError(
            f"{where}.lr_mul: no weight's name has {unused[0]!r} in it, or an earlier part"
        )
    default = inspect.signature(optimizer.entry).parameters["lr"].default
    rate = optimizer.params.get("lr", default)
    return [
        {"params": weights, "lr": rate * (1 if part is None else factors[part])}
        for part, weights in parts.items()
        if weights
    ]


def is_torchs(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its ways are known: it changes weights and what it remembers of them alone, each
    weight by itself.
    """
    return type(optimizer).__module__.startswith("torch.optim")
