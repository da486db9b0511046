"""How long a run is, in one of four measures, and where in it something happens.

Lengths of schedules, frequencies and half-lives are given in the measure of the run. Inside, a
length is counted in whole units, so that nothing is lost by rounding: iterations, samples, LQ
pixels; hours in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from traiNNer.utils.text import plural
from traiNNer.utils.work import Work

# Parts of a run given in hours in which its schedule moves: a cosine of so many steps differs from
# a smooth one by less than a thousandth of the rate.
SCHEDULE_PARTS = 10_000
# Amounts from here on are told without digits behind the point.
LARGE = 1000
# Iterations from one validation or checkpoint to the next where the options say nothing; of a
# length in another measure a part.
DEFAULT_FREQUENCY = 5000
DEFAULT_PARTS = 20


@dataclass(frozen=True)
class Measure:
    """What the length of a run is counted in.

    Attributes:
        counts: the attribute of `Work` that counts it.
        units: of that attribute in one of the options' (a megapixel is a million pixels).
        noun: one of them.
        short: for the log's line.
        whole: whether the options give whole numbers of it.
        most: above that it is a typing error.
    """

    counts: str
    units: int
    noun: str
    short: str
    whole: bool
    most: int


MEASURES: Mapping[str, Measure] = {
    "total_iter": Measure("iterations", 1, "iteration", "it", whole=True, most=10**10),
    "total_samples": Measure("samples", 1, "sample", "samples", whole=True, most=10**12),
    "total_mpixels": Measure("pixels", 10**6, "megapixel", "Mpx", whole=False, most=10**9),
    # Ten years.
    "total_hours": Measure("seconds", 3600, "hour", "h", whole=False, most=87_660),
}


@dataclass(frozen=True)
class RunLength:
    """The length of a run.

    Attributes:
        key: of `MEASURES` and of the options.
        total: in units of what the measure counts.
        step: units by which the schedule moves one step: those of an iteration at the sizes of the
            options. So with sizes that stay, the schedule is the same whatever the measure.
    """

    key: str
    total: float
    step: float

    @classmethod
    def of(cls, key: str, value: float, samples: int, pixels: int) -> RunLength:
        """A length as the options give it.

        Args:
            key: of `MEASURES`.
            value: in its measure.
            samples: of an iteration at the sizes of the options.
            pixels: LQ pixels of these samples.
        """
        total = in_units(key, value)
        steps = {"total_iter": 1, "total_samples": samples, "total_mpixels": pixels}
        return cls(key, total, steps.get(key, total / SCHEDULE_PARTS))

    @property
    def measure(self) -> Measure:
        """What it is counted in."""
        return MEASURES[self.key]

    @cached_property
    def steps(self) -> int:
        """Steps of the schedule in the whole run."""
        return max(1, math.ceil(self.total / self.step))

    def units(self, amount: float) -> float:
        """An amount in the measure, in units."""
        return in_units(self.key, amount)

    def done(self, work: Work) -> float:
        """Units so far."""
        return getattr(work, self.measure.counts)

    def place(self, work: Work) -> int:
        """Steps of the schedule so far; the last step of a run may go a little beyond its end."""
        return min(int(self.done(work) // self.step), self.steps)

    def is_over(self, work: Work) -> bool:
        """Whether the run has come to its end."""
        return self.done(work) >= self.total

    def frequency(self, given: float | None) -> float:
        """What the options give, or else what is usual, in the measure."""
        if given is not None:
            return given
        if self.key == "total_iter":
            return DEFAULT_FREQUENCY
        return self.total / DEFAULT_PARTS / self.measure.units

    def passed(self, frequency: float, before: float, now: float) -> bool:
        """Whether a multiple of `frequency`, given in the measure, lies between two numbers of
        units.
        """
        units = self.units(frequency)
        return now // units > before // units

    def schedule(self, parameters: Mapping[str, Any], lengths: tuple[str, ...]) -> dict[str, Any]:
        """Arguments of a schedule with those that are lengths in steps instead of in the measure.

        Args:
            parameters: as the options give them.
            lengths: names of those that are lengths, or lists of such.
        """
        converted = dict(parameters)
        for name in lengths:
            value = parameters.get(name)
            if isinstance(value, list | tuple):
                converted[name] = [self._in_steps(each) for each in value]
            elif value is not None:
                converted[name] = self._in_steps(value)
        return converted

    def shown(self, units: float) -> str:
        """For example `1,000 iterations`, `3.2 megapixels`, `0.5 hours`."""
        amount = units / self.measure.units
        if self.measure.whole:
            return plural(round(amount), self.measure.noun)
        number = f"{amount:,.0f}" if amount >= LARGE else f"{amount:.4g}"
        return f"{number} {self.measure.noun}{'' if amount == 1 else 's'}"

    def number(self, units: float) -> str:
        """The amount alone, for the log's line."""
        amount = units / self.measure.units
        return f"{amount:.0f}" if self.measure.whole or amount >= LARGE else f"{amount:.4g}"

    def __str__(self) -> str:
        return self.shown(self.total)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"key": self.key, "total": self.total, "step": self.step}

    def _in_steps(self, value: float) -> int:
        return max(1, round(self.units(value) / self.step)) if value else 0


def whole_amount(length: RunLength) -> float:
    """The total in its measure, as the options give it."""
    return length.total / length.measure.units


def expected_seconds(length: RunLength, rate: Work) -> float | None:
    """What a whole run takes where `rate.seconds` were taken for the work of `rate`; None for a run
    that is given in hours.
    """
    done = length.done(rate)
    return None if length.key == "total_hours" or not done else length.total * rate.seconds / done


def in_units(key: str, value: float) -> float:
    """An amount in the measure of a run, in units; whole ones but for hours."""
    units = value * MEASURES[key].units
    return units if key == "total_hours" else max(1, round(units))
