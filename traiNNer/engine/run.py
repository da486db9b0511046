"""A run and its loop: parts before, a step, parts after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from traiNNer.data.protocols import TrainingSet
from traiNNer.engine.folders import RunFolders
from traiNNer.engine.interrupts import EXIT_INTERRUPTED, Interrupts
from traiNNer.engine.part import Part, Stateful
from traiNNer.engine.progress import Stopwatch
from traiNNer.engine.step_of_all import agree_on_sizes, joined
from traiNNer.engine.stream import StepStream
from traiNNer.engine.tracker import Tracker
from traiNNer.models import BaseModel, StepResult
from traiNNer.options.length import RunLength
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.errors import StopRequested
from traiNNer.utils.memory import MemoryBackend
from traiNNer.utils.out_of_memory import first_line
from traiNNer.utils.seeds import restore_rng_state, rng_state
from traiNNer.utils.team import Team

log = logging.getLogger(__name__)
# What a checkpoint keeps besides the parts.
OTHER_STATES = ("recipe", "stream", "random")


class RandomState:
    """The global random generators, as something that a checkpoint keeps."""

    def state_dict(self) -> dict[str, Any]:
        """Python's, numpy's and torch's."""
        return rng_state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo everything drawn since."""
        restore_rng_state(dict(state))


@dataclass
class Run:
    """Everything that a run consists of while it goes.

    Attributes:
        options: the checked options.
        recipe: makes the steps.
        stream: the samples of each step.
        train_set: what it is trained on.
        folders: where the run lives.
        parts: everything else, in the order in which they are called.
        tracker: curves.
        interrupts: Ctrl-C, SIGTERM, a closed terminal.
        clock: counts time and speed.
        memory: of the device; set by the part that fits the run to it.
        stopped: an interrupted run was saved and ends after this step.
    """

    options: TrainingOptions
    recipe: BaseModel
    stream: StepStream
    train_set: TrainingSet
    folders: RunFolders
    parts: tuple[Part, ...]
    tracker: Tracker
    interrupts: Interrupts
    clock: Stopwatch
    memory: MemoryBackend | None = None
    stopped: bool = False
    random: RandomState = field(default_factory=RandomState)
    _done_before: float = 0.0
    _wants_end: bool = False

    @property
    def team(self) -> Team:
        """The processes that train together."""
        return self.recipe.runtime.team

    @property
    def wants_end(self) -> bool:
        """Whether somebody wants the run to end; in a team, whether all know that."""
        return self.interrupts.requested if self.team.is_alone else self._wants_end

    @property
    def iteration(self) -> int:
        """Changes of the weights so far."""
        return self.recipe.iteration

    @property
    def length(self) -> RunLength:
        """How long it is."""
        return self.recipe.length

    @property
    def done(self) -> float:
        """What is done of that, in the length's units."""
        return self.length.done(self.recipe.work)

    @property
    def is_over(self) -> bool:
        """Whether it has come to its end."""
        return self.length.is_over(self.recipe.work)

    def is_nth(self, frequency: int) -> bool:
        """Whether something that happens every `frequency` iterations, and at the end, happens
        now.
        """
        return self.iteration % frequency == 0 or self.is_over

    def is_due(self, frequency: float | None) -> bool:
        """The same for a frequency in the measure of the run's length; None is the usual one."""
        length = self.length
        return self.is_over or length.passed(
            length.frequency(frequency), self._done_before, self.done
        )

    def tell_time(self) -> None:
        """Have the recipe know how long the run has taken by now. In a team each step tells: the
        clocks of its processes differ.
        """
        if self.team.is_alone:
            self.recipe.work.seconds = self.clock.seconds

    @property
    def stateful(self) -> dict[str, Stateful]:
        """What a checkpoint keeps, by name. The random generators are last: whatever draws while
        the others are loaded changes nothing.
        """
        parts: dict[str, Stateful] = {part.name: part for part in self.parts}
        return {"recipe": self.recipe, "stream": self.stream} | parts | {"random": self.random}

    def train(self) -> int:
        """Train from where the recipe is to the end; 0, or 130 when interrupted (after saving)."""
        with self._started():
            # What one process asks for is exchanged, so all of them do.
            per_sample = any(self.team.share(any(part.needs_per_sample for part in self.parts)))
            while not self.is_over:
                for part in self.parts:
                    part.before_step(self)
                result = self._step(per_sample)
                if result is None:
                    for part in self.parts:
                        part.stop(self)
                    return EXIT_INTERRUPTED
                self.clock.count(result.shape, result.samples, result.pixels)
                for part in self.parts:
                    part.after_step(self, result)
                if self.stopped:
                    return EXIT_INTERRUPTED
        return EXIT_INTERRUPTED if self.interrupts.requested else 0

    def _step(self, per_sample: bool) -> StepResult | None:
        """Read and make a step; None if somebody wants the run to end without it. All is as before
        it then.
        """
        team = self.team
        if not agree_on_sizes(team, self.recipe, self.stream.loader):
            return None
        batches = self.stream.next_step()
        if batches is None:
            team.vote(wants_end=True)
            return None
        self._done_before = self.done
        self.tell_time()
        try:
            result = self.recipe.step(batches, per_sample=per_sample)
        except StopRequested as request:
            if not request.is_agreed:
                team.vote(wants_end=True)
            self.stream.step_back()
            return None
        except Exception:
            if self.recipe.runner.between_steps:
                self.stream.step_back()
            raise
        self.tell_time()
        if team.is_alone:
            return result
        seconds = self.clock.seconds
        result, self._wants_end = joined(
            team,
            self.recipe,
            self.stream.loader,
            result,
            seconds,
            wants_end=self.interrupts.requested,
        )
        return result

    def _rescue(self) -> str:
        """Keep the last whole step, if there is one; what came of it, for the error's message."""
        if not self.recipe.runner.between_steps:
            return "The weights are those of an unfinished step, so they are not saved."
        return " ".join(filter(None, [part.rescue(self) for part in self.parts]))

    @contextmanager
    def _started(self) -> Iterator[None]:
        """The parts between their start and their end. Each that began is closed, whatever
        happens, the last first.
        """
        closing: list[Callable[[], None]] = [self.stream.close]
        try:
            for part in self.parts:
                closing.append(partial(part.close, self))
                part.start(self)
            self.clock.begin(self.recipe.work.seconds)
            yield
        except BaseException as error:
            # The reason of the end is what is told; what fails on the way out is said beside it.
            if isinstance(error, Exception):
                error.add_note(self._rescue())
            for failure in _errors_of(reversed(closing)):
                log.warning("while the run was ended: %s", first_line(failure))
            raise
        errors = _errors_of(reversed(closing))
        if errors:
            raise errors[0]


def _errors_of(actions: Iterable[Callable[[], None]]) -> list[Exception]:
    """Carry out all of them; what they raised."""
    errors: list[Exception] = []
    for action in actions:
        try:
            action()
        except Exception as error:  # noqa: BLE001 (whatever a part of a program's own raises)
            errors.append(error)
    return errors
