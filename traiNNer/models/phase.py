"""One network's share of a step, and everything that belongs to it alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from traiNNer.data import Batch
from traiNNer.models.chunks import Chunk
from traiNNer.models.nonfinite import NonFiniteGuard
from traiNNer.models.step import Losses


@dataclass(frozen=True)
class Objective:
    """What a phase makes smaller.

    Attributes:
        losses: from a chunk on the device to the weighted losses by label.
        name: goes before the labels where a phase has several objectives.
        view: what of a batch it looks at, for example the same samples at another size; None takes
            the batch as it is. Each view is on the device alone, so that a step over several sizes
            needs the memory of the largest one.
    """

    losses: Callable[[Chunk], Losses]
    name: str = ""
    view: Callable[[Batch], Batch] | None = None

    def label(self, label: str) -> str:
        """The label of a loss in the log."""
        return f"{self.name}_{label}" if self.name else label


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
        parameters: the weights that it changes.
    """

    name: str
    optimizer: torch.optim.Optimizer
    objectives: tuple[Objective, ...]
    guard: NonFiniteGuard
    scaler: torch.amp.GradScaler
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    parameters: list[nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]

    def forget_gradients(self, device: torch.device) -> None:
        """Drop what a failed attempt left, so that the phase can begin again."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler.is_enabled():
            # It remembers that this optimizer's gradients were unscaled, and refuses to do it
            # twice; only a new one has no such memory.
            state = self.scaler.state_dict()
            self.scaler = torch.amp.GradScaler(device.type)
            self.scaler.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """Everything of the phase that the next step depends on, but for the weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "guard": self.guard.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None and state["scheduler"] is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.guard.load_state_dict(state["guard"])
