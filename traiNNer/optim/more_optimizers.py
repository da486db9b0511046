"""Optimizers of the library pytorch-optimizer, by name. It is imported when one is asked for."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch

# What people train restoration networks with. Left out are those that need a closure, second
# gradients or the weights in groups of kinds, and those that torch has itself.
NAMES = (
    "AdaBelief", "AdamP", "Adan", "AdEMAMix", "ADOPT", "Lamb", "Lion", "MARS", "Prodigy", "SOAP",
    "StableAdamW", "ScheduleFreeAdamW", "ScheduleFreeRAdam", "ScheduleFreeSGD",
)  # fmt: skip


@dataclass(frozen=True)
class LibraryOptimizer:
    """A class of pytorch-optimizer.

    Attributes:
        name: of the class.
    """

    name: str

    @property
    def cls(self) -> Any:
        """The class itself."""
        import pytorch_optimizer

        return getattr(pytorch_optimizer, self.name)

    @property
    def __signature__(self) -> inspect.Signature:
        signature = inspect.signature(self.cls)
        parameters = list(signature.parameters.values())
        for place, parameter in enumerate(parameters):
            if parameter.name.startswith("betas"):
                # The library's types allow two or three for all, and a step fails then.
                exactly = tuple[(float,) * len(parameter.default)]
                parameters[place] = parameter.replace(annotation=exactly)
        return signature.replace(parameters=parameters)

    @property
    def is_schedule_free(self) -> bool:
        """Whether it averages the weights itself, and needs no schedule (Defazio et al., "The Road
        Less Scheduled", 2024).
        """
        return self.name.startswith("ScheduleFree")

    def __call__(self, parameters: Any, **options: Any) -> torch.optim.Optimizer:
        return self.cls(parameters, **options)
