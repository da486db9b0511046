"""torch's learning-rate schedulers; a length that the options leave out becomes the length of the
run.
"""

from __future__ import annotations

import inspect
import typing
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from traiNNer.options.length import RunLength
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import SCHEDULERS


@dataclass(frozen=True)
class SchedulerSpec:
    """A class of torch.optim.lr_scheduler.

    Attributes:
        name: of the class.
        length: the argument that is the length of the whole schedule; None if there is none.
        parts: other arguments that are lengths, or lists of such.
    """

    name: str
    length: str | None = None
    parts: tuple[str, ...] = ()

    @property
    def lengths(self) -> tuple[str, ...]:
        """The arguments that options give in the measure of the run."""
        return self.parts if self.length is None else (self.length, *self.parts)

    @property
    def cls(self) -> Any:
        """The class itself."""
        return getattr(torch.optim.lr_scheduler, self.name)

    @property
    def __signature__(self) -> inspect.Signature:
        names = {
            "Iterable": Iterable,
            "Sequence": Sequence,
            "Callable": Callable,
            "Literal": typing.Literal,
        }
        # torch imports these names for type checkers only.
        hints = typing.get_type_hints(self.cls.__init__, localns=names)
        parameters = [
            p.replace(
                annotation=self._annotation(p, hints),
                default=None if p.name == self.length else p.default,
                kind=p.KEYWORD_ONLY,
            )
            for p in inspect.signature(self.cls).parameters.values()
            # Deprecated, and gone in newer versions.
            if p.name != "verbose"
        ]
        return inspect.Signature(parameters)

    def _annotation(self, parameter: inspect.Parameter, hints: dict[str, Any]) -> Any:
        """A length may be a part of an hour or of a megapixel, for which torch has whole steps."""
        if parameter.name == "milestones":
            return list[float]
        if parameter.name in self.lengths:
            return float
        return hints.get(parameter.name, parameter.annotation)

    def __call__(
        self, optimizer: torch.optim.Optimizer, length: RunLength, **options: Any
    ) -> torch.optim.lr_scheduler.LRScheduler:
        arguments = length.schedule(options, self.lengths)
        # A user who leaves the length out means the run.
        if self.length is not None and arguments.get(self.length) is None:
            arguments[self.length] = length.steps
        return self.cls(optimizer, **arguments)


for _spec in (
    SchedulerSpec("MultiStepLR", parts=("milestones",)),
    SchedulerSpec("StepLR", parts=("step_size",)),
    SchedulerSpec("CosineAnnealingLR", length="T_max"),
    SchedulerSpec("CosineAnnealingWarmRestarts", parts=("T_0",)),
    SchedulerSpec("ExponentialLR"),
    SchedulerSpec("LinearLR", length="total_iters"),
    SchedulerSpec("PolynomialLR", length="total_iters"),
    SchedulerSpec("ConstantLR", length="total_iters"),
    SchedulerSpec("OneCycleLR", length="total_steps"),
    SchedulerSpec("CyclicLR", parts=("step_size_up", "step_size_down")),
):
    SCHEDULERS.add(_spec.name, _spec)


def build_scheduler(
    name: str, optimizer: torch.optim.Optimizer, length: RunLength, options: dict[str, Any]
) -> torch.optim.lr_scheduler.LRScheduler:
    """The scheduler `name`, to be stepped as `length.place` moves.

    Args:
        name: of a registered scheduler.
        optimizer: whose learning rates it sets.
        length: of the run; a length that `options` leave out is that one.
        options: its arguments; lengths in the measure of the run.

    Raises:
        OptionsError: for values that the scheduler refuses, at once or at its first step.
    """
    try:
        with warnings.catch_warnings():
            # The rehearsal steps a scheduler whose optimizer never does.
            warnings.simplefilter("ignore")
            # Values that are refused at the first step are refused before the run, not in it.
            arguments = inspect.signature(type(optimizer)).parameters
            settings = {key: value for key, value in optimizer.defaults.items() if key in arguments}
            rehearsal = type(optimizer)([torch.zeros(1, requires_grad=True)], **settings)
            rehearsed = SCHEDULERS[name](rehearsal, length, **options)
            rehearsed.step()
        # OneCycleLR alone refuses to go beyond its end.
        steps = getattr(rehearsed, "total_steps", length.steps)
        if steps < length.steps:
            ends = length.shown(steps * length.step)
            raise ValueError(f"it ends after {ends}, and the run has {length}")
        return SCHEDULERS[name](optimizer, length, **options)
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise OptionsError(
            f"scheduler {name}: {error}; see --explain train.scheduler.{name}"
        ) from error


def rebuild_scheduler(
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    name: str,
    length: RunLength,
    options: dict[str, Any],
    place: int,
) -> torch.optim.lr_scheduler.LRScheduler:
    """Another scheduler on the optimizer of `scheduler`, which has gone `place` steps already: the
    learning rates are those that its schedule has there.

    Raises:
        OptionsError: for values that the scheduler refuses.
    """
    optimizer = scheduler.optimizer
    # Rates of the options, from which every scheduler sets out.
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    rebuilt = build_scheduler(name, optimizer, length, options)
    with warnings.catch_warnings():
        # torch discourages jumps, but knows the rate at any place.
        warnings.simplefilter("ignore")
        rebuilt.step(place)
    return rebuilt
