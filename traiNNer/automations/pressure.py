"""How short memory is, and what that asks of the size of a step."""

from __future__ import annotations

from dataclasses import dataclass

from traiNNer.utils.memory import MemoryLook

LEVELS = ("low", "moderate", "high", "critical")
# A level is left for a calmer one only where the headroom is so much above its threshold: at the
# threshold itself the level would change with every look.
CALMER = 1.1
# Bound of what a step's pixels change by at once, as a share: half of them is what a step that ran
# out of memory is repeated with.
MOST_CHANGE = 0.5
# Bound of the integral, in shares of the headroom times seconds: a pressure that lasted for an hour
# is not to be paid back for another one.
MOST_INTEGRAL = 5.0


@dataclass(frozen=True)
class TimedLook:
    """A look at the memory and when it was.

    Attributes:
        seconds: of a clock that only goes forward.
        look: what was seen.
    """

    seconds: float
    look: MemoryLook


@dataclass(frozen=True)
class PressureLevels:
    """Below which headroom, in bytes, each level begins; each at most the one before.

    Attributes:
        moderate: a little short.
        high: steps are to become smaller.
        critical: about to run out.
    """

    moderate: float
    high: float
    critical: float

    def level(self, headroom: float, present: int = 0) -> int:
        """The place of the level in `LEVELS`.

        Args:
            headroom: bytes that can still be had.
            present: the level so far; a calmer one needs more headroom than where it began.
        """
        thresholds = (self.moderate, self.high, self.critical)
        # Thresholds at or below which the headroom is; those of the present level and below it are
        # further up.
        reached = [
            headroom < threshold * (CALMER if place <= present else 1.0)
            for place, threshold in enumerate(thresholds, 1)
        ]
        return sum(reached)


@dataclass
class Pid:
    """A controller of the headroom: proportional, integral and derivative.

    Errors are shares of the headroom that is wanted: 0 where it is there, -1 where none is left,
    1 where twice as much is.

    Attributes:
        kp: per error.
        ki: per error and second.
        kd: per change of the error in a second.
        integral: of the error over time so far.
        error: the last one; None before the first.
        seconds: of the last one.
    """

    kp: float
    ki: float
    kd: float
    integral: float = 0.0
    error: float | None = None
    seconds: float = 0.0

    def update(self, error: float, seconds: float) -> float:
        """The share by which the pixels of a step should change: below 0 to shrink.

        Args:
            error: now.
            seconds: of a clock that only goes forward.
        """
        slope = 0.0
        if self.error is not None and seconds > self.seconds:
            passed = seconds - self.seconds
            summed = self.integral + error * passed
            self.integral = min(MOST_INTEGRAL, max(-MOST_INTEGRAL, summed))
            slope = (error - self.error) / passed
        self.error = error
        self.seconds = seconds
        wish = self.kp * error + self.ki * self.integral + self.kd * slope
        return min(MOST_CHANGE, max(-MOST_CHANGE, wish))

    def forget(self) -> None:
        """What was summed up no longer holds."""
        self.integral = 0.0
        self.error = None
