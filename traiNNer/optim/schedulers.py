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

from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import SCHEDULERS


@dataclass(frozen=True)
class SchedulerSpec:
    """A class of torch.optim.lr_scheduler, and the name of its argument that is a length in
    iterations (or None).
    """

    name: str
    length: str | None = None

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
                annotation=hints.get(p.name, p.annotation),
                default=None if p.name == self.length else p.default,
                kind=p.KEYWORD_ONLY,
            )
            for p in inspect.signature(self.cls).parameters.values()
            # Deprecated, and gone in newer versions.
            if p.name != "verbose"
        ]
        return inspect.Signature(parameters)

    def __call__(
        self, optimizer: torch.optim.Optimizer, total_iter: int, **options: Any
    ) -> torch.optim.lr_scheduler.LRScheduler:
        # A user who leaves the length out means the run.
        if self.length is not None and options.get(self.length) is None:
            options[self.length] = total_iter
        return self.cls(optimizer, **options)


for _spec in (
    SchedulerSpec("MultiStepLR"),
    SchedulerSpec("StepLR"),
    SchedulerSpec("CosineAnnealingLR", length="T_max"),
    SchedulerSpec("CosineAnnealingWarmRestarts"),
    SchedulerSpec("ExponentialLR"),
    SchedulerSpec("LinearLR", length="total_iters"),
    SchedulerSpec("PolynomialLR", length="total_iters"),
    SchedulerSpec("ConstantLR", length="total_iters"),
    SchedulerSpec("OneCycleLR", length="total_steps"),
    SchedulerSpec("CyclicLR"),
):
    SCHEDULERS.add(_spec.name, _spec)


def build_scheduler(
    name: str, optimizer: torch.optim.Optimizer, total_iter: int, options: dict[str, Any]
) -> torch.optim.lr_scheduler.LRScheduler:
    """The scheduler `name`, to be stepped once an iteration.

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
            rehearsed = SCHEDULERS[name](rehearsal, total_iter, **options)
            rehearsed.step()
        # OneCycleLR alone refuses to go beyond its end.
        length = getattr(rehearsed, "total_steps", total_iter)
        if length < total_iter:
            raise ValueError(
                f"it ends after {length} steps and the run has {total_iter} (train.total_iter)"
            )
        return SCHEDULERS[name](optimizer, total_iter, **options)
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise OptionsError(
            f"scheduler {name}: {error}; see --explain train.scheduler.{name}"
        ) from error


def fit_length(
    scheduler: torch.optim.lr_scheduler.LRScheduler, name: str, length: int, options: dict[str, Any]
) -> None:
    """Give a scheduler that has gone some way the length `length`, and its optimizer the rate that
    a schedule of that length has at this place.

    Args:
        scheduler: of a type with a length.
        name: its type.
        length: in iterations.
        options: the type's arguments.

    Raises:
        OptionsError: for values that the scheduler refuses.
    """
    key = SCHEDULERS[name].length
    assert key is not None, f"{name} has no length"
    rehearsal = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    rebuilt = build_scheduler(name, rehearsal, length, {**options, key: length}).state_dict()
    # The second one is what OneCycleLR makes of its length.
    changed = {part: rebuilt[part] for part in (key, "_schedule_phases") if part in rebuilt}
    place = scheduler.last_epoch
    steps = scheduler.state_dict()["_step_count"]
    scheduler.load_state_dict(changed)
    with warnings.catch_warnings():
        # torch discourages jumps, but knows the rate at any place.
        warnings.simplefilter("ignore")
        scheduler.step(place)
    scheduler.load_state_dict({"_step_count": steps})
