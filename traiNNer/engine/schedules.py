"""The schedules of a resumed run: as they were saved, fitted to another length, or begun anew."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from traiNNer.models import BaseModel, Phase
from traiNNer.optim import build_scheduler, rebuild_scheduler
from traiNNer.options.length import RunLength
from traiNNer.options.schema import TrainingOptions

log = logging.getLogger(__name__)


def adapt_schedules(
    recipe: BaseModel, former: RunLength, before: Mapping[str, Any], options: TrainingOptions
) -> bool:
    """Fit the schedules that were just loaded to what the options say of their length.

    Args:
        recipe: with the state of a checkpoint.
        former: the length of the run that saved it.
        before: the section `train` of that run's options.
        options: the present ones.

    Returns:
        Whether the schedules begin anew.
    """
    train = options.train
    length = recipe.length
    if train.scheduler is None or length.is_over(recipe.work):
        return False
    was_restarted = before.get("restart_scheduler", False) and former == length
    if train.restart_scheduler and not was_restarted:
        for phase in recipe.phases:
            _restart(phase, recipe, options)
        return True
    if (former.key, former.step) != (length.key, length.step):
        recipe.place = length.place(recipe.work)
        for phase in recipe.phases:
            _rebuild(phase, options, length, train.scheduler.params, recipe.place)
    elif train.scheduler.entry.length is not None:
        for phase in recipe.phases:
            _stretch(phase, former, before["scheduler"] or {}, options)
    elif former != length:
        log.info(
            "the schedule %s has no length of its own and goes on as it was\n"
            "  train.%s does not change it",
            train.scheduler.type,
            length.key,
        )
    return False


def _stretch(
    phase: Phase, former: RunLength, before: Mapping[str, Any], options: TrainingOptions
) -> None:
    """Give a schedule the length of the options, at the place where it is: one of its own is the
    options', one that was left out moves with the run's.
    """
    section = options.train.scheduler
    length = options.length
    scheduler = phase.scheduler
    assert section is not None
    if scheduler is None:
        return
    key = section.entry.length
    present = getattr(scheduler, key)
    given = section.params.get(key)
    given_before = before.get(key)
    if given is None:
        started_with = former.schedule(before, (key,)).get(key) or former.steps
        steps = present + length.steps - started_with
    elif given == given_before:
        steps = present
    else:
        steps = length.schedule(section.params, (key,))[key]
    if steps == present:
        return
    own = replace(length, total=steps * length.step)
    parameters = {name: value for name, value in section.params.items() if name != key}
    _rebuild(phase, options, own, parameters, scheduler.last_epoch)


def _rebuild(
    phase: Phase,
    options: TrainingOptions,
    length: RunLength,
    parameters: dict[str, Any],
    place: int,
) -> None:
    section = options.train.scheduler
    assert section is not None
    if phase.scheduler is None:
        return
    phase.scheduler = rebuild_scheduler(phase.scheduler, section.type, length, parameters, place)
    log.info(
        "the schedule %s of the %s is rebuilt for %s\n  the learning rate goes on at %.2e",
        section.type,
        phase.name,
        length,
        phase.optimizer.param_groups[0]["lr"],
    )


def _restart(phase: Phase, recipe: BaseModel, options: TrainingOptions) -> None:
    """Begin a schedule anew, over what is left of the run."""
    section = options.train.scheduler
    assert section is not None
    length = recipe.length
    left = replace(length, total=length.total - length.done(recipe.work))
    rate = phase.optimizer.defaults["lr"]
    for group in phase.optimizer.param_groups:
        group["lr"] = rate
        group["initial_lr"] = rate
    phase.scheduler = build_scheduler(section.type, phase.optimizer, left, section.params)
    log.info(
        "train.restart_scheduler: the schedule %s of the %s begins anew\n"
        "  the learning rate is %.2e now, and %s are left",
        section.type,
        phase.name,
        phase.optimizer.param_groups[0]["lr"],
        left,
    )
