"""What was measured at which shape, and what did not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from traiNNer.automations.state import from_state, to_state
from traiNNer.utils.memory import MemoryReading
from traiNNer.utils.shape import Shape

# Weight that an observation keeps each time another shape takes over: slow drift is followed, and
# the two or three shapes that tell the slope still count.
FORGETTING = 0.9
# Turns after which a weight falls no further. 0.9^60 is below 0.002, and a weight of nothing would
# leave the least squares without a solution.
OLDEST = 60
# Least weight of a new reading in a shape's mean: below it the mean would no longer follow drift.
FOLLOWING = 0.3
# Relative change of a measured shape below which predictions stay as they are: noise alone is
# smaller, and computing the curve anew is what costs.
SAME = 0.001
# Failures that are remembered; they are rare, and old ones tell of conditions that have passed.
FAILURES_KEPT = 8


@dataclass
class Observed:
    """What is known about one shape.

    Attributes:
        shape: that was measured.
        allocated: mean peak of what tensors took, in bytes.
        ratio: mean of reserved / allocated, at least 1.
        count: readings.
        turn: changes of shape when it was last measured.
    """

    shape: Shape
    allocated: float
    ratio: float
    count: int
    turn: int

    @property
    def reserved(self) -> float:
        """Bytes that a step reserves."""
        return self.allocated * self.ratio


@dataclass(frozen=True)
class Failure:
    """A step at `shape` did not fit into `available` bytes, and was expected to."""

    shape: Shape
    available: int


@dataclass
class Observations:
    """Measured shapes, the one measured last at the end.

    Attributes:
        history: shapes remembered; the one measured longest ago is forgotten first.
        floor: bytes that are taken at no pixels, as far as is known.
        turn: changes of shape so far.
        latest: the shape that was measured last.
        failures: what was expected to fit and did not.
        seen: by shape.
    """

    history: int = 64
    floor: int = 0
    turn: int = 0
    latest: Shape | None = None
    failures: list[Failure] = field(default_factory=list)
    seen: dict[Shape, Observed] = field(default_factory=dict)

    def take(self, shape: Shape, reading: MemoryReading) -> bool:
        """Take in a reading; whether it tells something new."""
        self.floor = reading.baseline
        if shape != self.latest:
            self.latest = shape
            self.turn += 1
        ratio = max(1.0, reading.reserved_peak / max(1, reading.allocated_peak))
        known = self.seen.pop(shape, None)
        if known is None:
            known = Observed(shape, reading.allocated_peak, ratio, count=0, turn=self.turn)
        reserved_before = known.reserved
        turn_before = known.turn
        known.count += 1
        step = max(1.0 / known.count, FOLLOWING)  # a mean at first, then it follows
        known.allocated += step * (reading.allocated_peak - known.allocated)
        known.ratio += step * (ratio - known.ratio)
        known.turn = self.turn
        # dictionaries keep the order of insertion: put at the end, it is the last to be forgotten
        self.seen[shape] = known
        while len(self.seen) > self.history:
            del self.seen[next(iter(self.seen))]
        changed = abs(known.reserved / reserved_before - 1) > SAME
        return known.count == 1 or self.turn != turn_before or changed

    def fail(self, shape: Shape, available: int) -> None:
        """Remember that `shape` did not fit into `available` bytes."""
        self.failures = [*self.failures, Failure(shape, available)][-FAILURES_KEPT:]

    def weight(self, observed: Observed) -> float:
        """1 for the latest shape, less for older ones."""
        return FORGETTING ** min(OLDEST, self.turn - observed.turn)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs."""
        return {
            "floor": self.floor,
            "turn": self.turn,
            "latest": to_state(Shape | None, self.latest),
            "failures": to_state(list[Failure], self.failures),
            # a list: keys of JSON are strings, and the order says what is forgotten first
            "seen": to_state(list[Observed], list(self.seen.values())),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Know again what `state_dict` knew."""
        self.floor = int(state["floor"])
        self.turn = int(state["turn"])
        self.latest = from_state(Shape | None, state["latest"])
        self.failures = from_state(list[Failure], state["failures"])
        seen = from_state(list[Observed], state["seen"])
        self.seen = {observed.shape: observed for observed in seen}
