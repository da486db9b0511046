"""How many weights a network has, found out without allocating them."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from traiNNer.archs.spec import ArchSpec
from traiNNer.utils.errors import OptionsError


def count_parameters(spec: ArchSpec, scale: int, **parameters: object) -> int:
    """How many weights the network has. Allocates none, except for a class that cannot be built
    without.

    Raises:
        OptionsError: if it cannot be built at that scale or with those parameters.
    """
    try:
        with torch.device("meta"), _NumbersOnCpu():
            network = spec(scale=scale, **parameters)
    except (OptionsError, NotImplementedError):
        # A class may read values that it has just made, which tensors without memory do not have.
        network = spec(scale=scale, **parameters)
    return sum(parameter.numel() for parameter in network.parameters())


class _NumbersOnCpu(TorchFunctionMode):
    """Keeps on the CPU what classes compute settings from, such as rising drop rates."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        # The rates are a `linspace` everywhere, and are read back as Python's floats.
        device = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **device, **(kwargs or {}))
