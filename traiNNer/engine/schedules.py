"""The schedules of a resumed run: as they were saved, fitted to another length, or begun anew."""

from __future__ import annotations

import logging
from typing import Any

from traiNNer.models import BaseModel
from traiNNer.optim import build_scheduler, fit_length
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.registry import SCHEDULERS

log = logging.getLogger(__name__)


def adapt_schedules(recipe: BaseModel, before: dict[str, Any], options: TrainingOptions) -> bool:
    """Fit the schedules that were just loaded to what the options say of their length.

    Args:
        recipe: with the state of a checkpoint.
        before: the section `train` of the checkpoint's options.
        options: the present ones.

    Returns:
        Whether the schedules begin anew.
    """
    train = options.train
    if train.scheduler is None or recipe.iteration >= train.total_iter:
        return False
    is_longer_or_shorter = before["total_iter"] != train.total_iter
    was_restarted = before.get("restart_scheduler", False) and not is_longer_or_shorter
    if train.restart_scheduler and not was_restarted:
        _restart(recipe, options)
        return True
    key = SCHEDULERS[train.scheduler.type].length
    if key is None:
        if is_longer_or_shorter:
            log.info(
                "the schedule %s counts iterations and goes on as it was\n"
                "  train.total_iter does not change it",
                train.scheduler.type,
            )
        return False
    former = (before["scheduler"] or {}).get(key)
    given = train.scheduler.params.get(key)
    # A length of its own is the options'; one that was left out moves with the run's.
    for phase in recipe.phases:
        if phase.scheduler is None:
            continue
        length = getattr(phase.scheduler, key)
        if given is not None:
            length = length if given == former else given
        else:
            length += train.total_iter - (former or before["total_iter"])
        if length != getattr(phase.scheduler, key):
            fit_length(phase.scheduler, train.scheduler.type, length, train.scheduler.params)
            log.info(
                "the schedule %s of the %s is rebuilt for %d iterations\n"
                "  the learning rate goes on at %.2e",
                train.scheduler.type,
                phase.name,
                length,
                phase.optimizer.param_groups[0]["lr"],
            )
    return False


def _restart(recipe: BaseModel, options: TrainingOptions) -> None:
    """Begin every schedule anew, over what is left of the run."""
    train = options.train
    assert train.scheduler is not None
    left = train.total_iter - recipe.iteration
    for phase in recipe.phases:
        rate = phase.optimizer.defaults["lr"]
        for group in phase.optimizer.param_groups:
            group["lr"] = rate
            group["initial_lr"] = rate
        phase.scheduler = build_scheduler(
            train.scheduler.type, phase.optimizer, left, train.scheduler.params
        )
        log.info(
            "train.restart_scheduler: the schedule %s of the %s begins anew\n"
            "  the learning rate is %.2e now, and %d iterations are left",
            train.scheduler.type,
            phase.name,
            phase.optimizer.param_groups[0]["lr"],
            left,
        )
