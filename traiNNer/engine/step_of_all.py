"""A step of several processes: agreed on before, and one record of it behind. Only the first
process decides sizes, reports, validates and saves; the others follow.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import astuple, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

import torch

from traiNNer.data import DynamicDataLoaderWrapper
from traiNNer.data.deal import Deal
from traiNNer.engine.part import Part
from traiNNer.models import BaseModel, StepResult
from traiNNer.models.step import Retry
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.memory import MemoryBackend, MemoryReading
from traiNNer.utils.shape import Shape
from traiNNer.utils.team import Team

log = logging.getLogger(__name__)
# Share of the memory that the automation fills where the options do not say otherwise.
TARGET = 0.85
# Memories that differ by less are taken for equal, so that samples go round by turns: cards that
# are alike take equal times for equal batches.
ALIKE = 1.06
# Times that a batch may be larger than the memory is: cards are about as fast as they are large,
# and the smallest would wait for a batch that takes the others much longer.
MOST_FOR_MEMORY = 2
# Parts of a batch in which processes differ: a power of two, so that sums are exact.
FINEST = 64

if TYPE_CHECKING:
    from traiNNer.engine.run import Run

T = TypeVar("T")


def agree_on_sizes(team: Team, recipe: BaseModel, loader: DynamicDataLoaderWrapper) -> bool:
    """Take over the first process's sizes; False if one of the processes has left the run, because
    somebody wants it to end.
    """
    if team.is_alone:
        return True
    votes = team.vote(loader.lq_size, loader.batch_size)
    if votes.wants_end:
        return False
    lq_size, batch_size = map(int, votes.values[0][:2])
    if (lq_size, batch_size) != (loader.lq_size, loader.batch_size):
        recipe.recover_from_oom(batch_size, lq_size)
    return True


def joined(
    team: Team,
    recipe: BaseModel,
    loader: DynamicDataLoaderWrapper,
    result: StepResult,
    seconds: float,
    *,
    wants_end: bool,
) -> tuple[StepResult, bool]:
    """The record of a step with what the others have to say: the memory of the process that is
    shortest of it, and what ran out of memory anywhere.

    Args:
        team: the processes.
        recipe: is told of the others' shortages, and the first process's time.
        loader: knows what was asked for.
        result: of this process.
        seconds: that the run has taken, by this process's clock.
        wants_end: whether somebody has told this process to end.

    Returns:
        The record, and whether the run is to end.
    """
    reading = result.reading
    memory = (0,) * len(fields(MemoryReading)) if reading is None else astuple(reading)
    retries = result.retries
    own = sum(retry.failures for retry in retries)
    deal = loader.sampler.deal
    fitted = min((retry.fitted for retry in retries), key=Shape.pixels, default=Shape(0, 0))
    votes = team.vote(
        seconds, own, fitted.lq_size, deal.asked(fitted.batch_size), *memory, wants_end=wants_end
    )
    recipe.work.seconds = votes.values[0][0]
    failures = sum(int(said[1]) for said in votes.values)
    recipe.out_of_memory_total += failures - own
    told = zip(deal.shares, votes.values, strict=True)
    readings = [(share, MemoryReading(*map(int, said[4:]))) for share, said in told]
    worst = worst_of([(share, reading) for share, reading in readings if reading.total])
    retry = None
    first = next(iter(result.phases))
    if failures:
        # What fitted in the process that could do least of the step.
        least = [Shape(int(said[2]), int(said[3])) for said in votes.values if said[1]]
        asked = Shape(loader.lq_size, loader.batch_size)
        retry = Retry(first, asked, min(least, key=Shape.pixels), failures)
    phases = {
        name: replace(phase, reading=worst, retry=retry if name == first else None)
        for name, phase in result.phases.items()
    }
    result = replace(result, phases=phases)
    # All of them ask for it, or none.
    if result.visits:
        result = with_samples_of_all(team, deal, result)
    return result, votes.wants_end


def with_samples_of_all(team: Team, deal: Deal, result: StepResult) -> StepResult:
    """The record with the visits and the losses of each sample of all processes, so that all of
    them learn the same about the data. It waits for the device.

    Args:
        team: the processes.
        deal: how the step's samples are shared.
        result: of this process.
    """
    own = {
        (name, label): values.tolist()
        for name, phase in result.phases.items()
        for label, values in phase.per_sample.items()
    }
    everyones = team.share((result.indices, result.visits, own))
    phases = dict(result.phases)
    for name, label in own:
        values = in_order(deal, [losses[name, label] for _, _, losses in everyones])
        per_sample = {**phases[name].per_sample, label: torch.tensor(values)}
        phases[name] = replace(phases[name], per_sample=per_sample)
    return replace(
        result,
        phases=phases,
        indices=tuple(in_order(deal, [indices for indices, _, _ in everyones])),
        visits=tuple(in_order(deal, [visits for _, visits, _ in everyones])),
    )


def in_order(deal: Deal, parts: Sequence[Sequence[T]]) -> list[T]:
    """What belongs to the samples of each process, as the samples follow each other in the stream:
    by turns, or one process's behind the other's.
    """
    return list(chain.from_iterable(zip(*parts, strict=True) if deal.is_even else parts))


def worst_of(readings: Sequence[tuple[float, MemoryReading]]) -> MemoryReading | None:
    """What the automation sees of a step of all: the reading of the fullest process among those
    with the batch that is asked for. Where one with a larger batch is fuller, what it is fuller by
    counts as taken by other programs.

    Args:
        readings: times the batch that a process takes, and what it has read.
    """
    alike = [reading for share, reading in readings if share == 1]
    if not alike:
        return None
    worst = max(alike, key=lambda reading: reading.used_share)
    fullest = max(reading.used_share for _, reading in readings)
    more = round((fullest - worst.used_share) * worst.total)
    return replace(worst, outside=worst.outside + more)


def share_by_memory(
    options: TrainingOptions,
    recipe: BaseModel,
    loader: DynamicDataLoaderWrapper,
    memory: MemoryBackend,
) -> None:
    """Have processes with more memory take larger batches of the same lq_size.

    Args:
        options: of the run.
        recipe: its networks are on the device by now, their gradients are not.
        loader: is told how samples are shared.
        memory: of this process's device.
    """
    team = recipe.runtime.team
    look = memory.look()
    gradients = sum(weight.nbytes for weight in recipe.main.module.parameters())
    left = TARGET * look.total - look.outside - look.reserved - gradients
    cards = team.share((look.total, left))
    if options.train.effective_batch_size is not None:
        return  # its parts are equal
    if "RandomSizes" in options.training_automations.active:
        return  # its batches are drawn for all alike
    if options.datasets.train.curriculum is not None:
        return  # what it decides about holds so many batches of the size that is asked for
    # What may have been read ahead are the positions of another deal.
    loader.close()
    loader.sampler.deal = Deal(team.rank, shares_of(cards))
    team.is_even = loader.sampler.deal.is_even
    if not team.is_even and team.is_first:
        shown = ", ".join(f"{share:g}" for share in loader.sampler.deal.shares)
        log.info("by their memory the processes take batches of %s times the size", shown)


def shares_of(cards: Sequence[tuple[int, float]]) -> tuple[float, ...]:
    """How many times the batch of the smallest card each takes. A batch that fills the smallest one
    fills none of the others further: what is not known yet of what is there before any sample, such
    as the optimizer's state, is the same for all, and so leaves the larger ones a little less full.

    Args:
        cards: bytes of memory of each, and what of them is left for samples, at most.
    """
    least = min(total for total, _ in cards)
    alike = min(left for total, left in cards if total < ALIKE * least)
    shares: list[float] = []
    for total, left in cards:
        by_size = total / least
        # Where the smallest is full before it begins, sizes tell as much as can be known.
        times = min(left / alike, MOST_FOR_MEMORY * by_size) if alike > 0 else by_size
        is_larger = total >= ALIKE * least and times > 1
        shares.append(int(FINEST * times) / FINEST if is_larger else 1.0)
    return tuple(shares)


class Following(Part):
    """What a process that is not the first has in place of all other parts.

    Args:
        memory: of its device, which it has measured; None measures nothing.
    """

    name = "following"

    def __init__(self, memory: MemoryBackend | None) -> None:
        self._memory = memory

    def start(self, run: Run) -> None:
        run.recipe.runner.memory = self._memory
        run.memory = self._memory

    def after_step(self, run: Run, result: StepResult) -> None:  # noqa: ARG002
        run.stopped = run.wants_end

    def stop(self, run: Run) -> None:
        run.stopped = True
