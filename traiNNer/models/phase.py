"""One network's share of a step, and everything that belongs to it alone."""

# torch's functions for lists of tensors are private to a type checker.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from traiNNer.models.nonfinite import NonFiniteGuard
from traiNNer.models.objectives import AnyObjective
from traiNNer.optim.optimizers import is_torchs
from traiNNer.utils.errors import OptionsError


@dataclass
class Phase:
    """One network's share of a step: gradients are accumulated over chunks of the samples, then
    applied.

    Each phase has a guard and a loss scale of its own: a generator whose gradients are never finite
    must not hide behind a critic whose gradients are.

    Attributes:
        name: for messages, for example "generator".
        optimizer: over the weights that this phase changes.
        objectives: each is accumulated for every chunk; the weights change once.
        guard: leaves out steps that are not finite.
        scaler: loss scale of fp16; switched off otherwise.
        scheduler: of the learning rate; None for a constant one.
        every: iterations from one of its steps to the next.
        begins_after: iterations that it leaves out at the beginning.
        keeps_gradients: whether they are set to zero between steps and not dropped.
        parameters: the weights that it changes.
    """

    name: str
    optimizer: torch.optim.Optimizer
    objectives: tuple[AnyObjective, ...]
    guard: NonFiniteGuard
    scaler: torch.amp.GradScaler
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    every: int = 1
    begins_after: int = 0
    keeps_gradients: bool = False
    parameters: list[nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]

    def is_due(self, iteration: int) -> bool:
        """Whether it takes part in an iteration, counted from 1."""
        return iteration > self.begins_after and iteration % self.every == 0

    def drop_gradients(self) -> None:
        """None is left, or zeros where they are kept. torch's own zero_grad asks the profiler,
        which needs memory.
        """
        if self.keeps_gradients:
            for weight in self.parameters:
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
            kept = [weight.grad for weight in self.parameters if weight.grad is not None]
            torch._foreach_zero_(kept)
            return
        for weight in self.parameters:
            weight.grad = None

    def forget_gradients(self, device: torch.device) -> None:
        """Drop what a failed attempt left, so that the phase can begin again."""
        self.drop_gradients()
        if self.scaler.is_enabled():
            # It remembers that this optimizer's gradients were unscaled, and refuses to do it
            # twice; only a new one has no such memory.
            state = self.scaler.state_dict()
            self.scaler = torch.amp.GradScaler(device.type)
            self.scaler.load_state_dict(state)

    def advance(self, steps: int) -> None:
        """So many steps of the learning rate's schedule.

        Raises:
            OptionsError: beyond the end of a schedule that has one.
        """
        if self.scheduler is None:
            return
        try:
            for _ in range(steps):
                self.scheduler.step()
        except ValueError as error:
            raise OptionsError(
                f"the schedule {type(self.scheduler).__name__} of the {self.name} cannot go on: "
                f"{error}. Begin it anew with train.restart_scheduler: true"
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Everything of the phase that the next step depends on, but for the weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "guard": self.guard.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: if it is not a state of this optimizer or this schedule.
        """
        if is_torchs(self.optimizer):
            _require_moments(self.optimizer, state["optimizer"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            # torch adds this to the defaults of everybody's optimizers.
            missing = self.optimizer.defaults.keys() - group.keys() - {"differentiable"}
            if missing:
                names = ", ".join(sorted(missing))
                raise ValueError(f"the state of the optimizer holds no {names}")
        if self.scheduler is not None and state["scheduler"] is not None:
            _require_alike(self.scheduler.state_dict(), state["scheduler"])
            self.scheduler.load_state_dict(state["scheduler"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.guard.load_state_dict(state["guard"])


# Of Adafactor, which keeps sums over rows and over columns. All else that torch's optimizers
# remember of a weight is a single number, or of the weight's shape.
_SUMS = ("row_var", "col_var")


def _require_moments(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """torch takes any tensors, and fails at the next step; or does not fail."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for number, remembered in state["state"].items():
        if number >= len(weights) or number < 0:
            raise ValueError(f"the optimizer changes {len(weights)} weights, not {number + 1}")
        for name, value in remembered.items():
            if not isinstance(value, torch.Tensor) or not value.ndim or name in _SUMS:
                continue
            shape = tuple(weights[number].shape)
            if tuple(value.shape) != shape:
                raise ValueError(
                    f"the optimizer's {name} of weight {number} is of shape {tuple(value.shape)}, "
                    f"and the weight of {shape}"
                )


def _require_alike(present: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """torch takes anything into a scheduler."""
    if "last_epoch" not in saved:
        raise ValueError("the state of the schedule holds no last_epoch")
    for key in present.keys() & saved.keys():
        kinds = (type(present[key]), type(saved[key]))
        # A number may be a whole one, and None stands for what is not there yet.
        if kinds[0] is not kinds[1] and not all(kind in (int, float, type(None)) for kind in kinds):
            raise ValueError(
                f"{key} of the schedule is a {kinds[1].__name__} in place of a {kinds[0].__name__}"
            )
