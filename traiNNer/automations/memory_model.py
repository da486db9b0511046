"""From the shapes measured so far to the memory of any other shape, with an honest margin.

The peak of a training step is affine in padded pixels, a + b * batch * frames * side^2, up to three
things: a kernel's workspace that one shape takes and its neighbour does not, curvature (global
attention, a second phase that becomes the larger one), and slow drift. So the curve is straight,
weighted towards what was seen recently, robust; a third term is admitted only where the residuals
ask for it; a shape's own residual is carried to its neighbours; and the margin comes from how well
earlier predictions came true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from traiNNer.automations.calibration import Calibration
from traiNNer.automations.margins import PredictionErrors
from traiNNer.automations.memory_curve import SizeGrid
from traiNNer.automations.observations import Observations
from traiNNer.automations.state import from_state, to_state
from traiNNer.utils.memory import MemoryReading
from traiNNer.utils.shape import Shape

# Margin of what was measured, as a share of it: it repeats within its noise.
PROVEN_MARGIN = 0.005


@dataclass(frozen=True)
class Prediction:
    """What a step at a shape should reserve.

    Attributes:
        bytes: expected peak of what the process reserves, without `outside`.
        margin: bytes to keep free on top, because the expectation may be wrong.
    """

    bytes: float
    margin: float

    @property
    def upper(self) -> float:
        """Expectation and margin."""
        return self.bytes + self.margin


class MemoryModel:
    """Learns from readings, predicts for shapes. A pure function of what it was shown.

    Args:
        size_multiple: what the network says that it pads sides to.
        frames: frames of a sample.
        history: shapes remembered; the one seen longest ago is forgotten first.

    Attributes:
        observations: what was measured.
    """

    def __init__(self, size_multiple: int = 1, frames: int = 1, history: int = 64) -> None:
        self._declared = SizeGrid(size_multiple, frames)
        self.observations = Observations(history)
        self._errors = PredictionErrors()
        self._calibration: Calibration | None = None

    @property
    def padding(self) -> int:
        """What sides are padded to as the measurements tell: a multiple of size_multiple, mostly
        itself.
        """
        return self._grid.padding

    def pixels(self, shape: Shape) -> int:
        """Padded LQ pixels of a batch."""
        return self._grid.pixels(shape)

    @property
    def count(self) -> int:
        """Shapes measured."""
        return len(self.observations.seen)

    @property
    def largest(self) -> int:
        """Padded pixels of the largest shape that was measured; 0 before any was."""
        return 0 if self._calibration is None else self._calibration.largest

    def largest_below(self, pixels: float) -> int:
        """Padded pixels of the largest measured shape that has at most `pixels`; 0 without one."""
        counts = [self.pixels(shape) for shape in self.observations.seen]
        return max((count for count in counts if count <= pixels), default=0)

    def knows(self, shape: Shape) -> bool:
        """Whether `shape` was measured."""
        return shape in self.observations.seen

    def observe(self, shape: Shape, reading: MemoryReading) -> None:
        """Take in the peaks of one shape."""
        # with one shape a prediction is a bound and not an estimate, so it has no error to learn
        if self.count >= 2 and not self.knows(shape):
            self._learn_error(shape, reading.reserved_peak)
        if self.observations.take(shape, reading):
            self._calibrate()

    def observe_failure(self, shape: Shape, available: int) -> None:
        """A step at `shape` did not fit into `available` bytes: where less was expected, the
        expectation was wrong.
        """
        if self.count and self.predict(shape).bytes < available:
            self._learn_error(shape, available)
            self.observations.fail(shape, available)
            self._calibrate()  # the padding may turn out to be another

    def predict(self, shape: Shape) -> Prediction:
        """What a step at `shape` should reserve.

        Raises:
            LookupError: before anything was observed.
        """
        if self._calibration is None:
            raise LookupError("nothing was observed yet")
        known = self.observations.seen.get(shape)
        if known is not None:
            return Prediction(known.reserved, PROVEN_MARGIN * known.reserved)
        expected, residual = self._calibration.expect(shape)
        margin = self._errors.margin(self._calibration, shape, expected, residual)
        return Prediction(expected, margin)

    def state_dict(self) -> dict[str, Any]:
        """Everything learned, as numbers, strings, lists, dictionaries and None."""
        return {
            "declared": to_state(SizeGrid, self._declared),
            "observations": self.observations.state_dict(),
            "errors": to_state(PredictionErrors, self._errors),
            # it may be older than the observations: small changes do not renew it
            "calibration": to_state(Calibration | None, self._calibration),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Know again what `state_dict` knew."""
        self.observations.load_state_dict(state["observations"])
        self._errors = from_state(PredictionErrors, state["errors"])
        self._calibration = from_state(Calibration | None, state["calibration"])
        # another network counts pixels in another way, and then the curve is another
        if self._calibration is not None and state["declared"] != to_state(
            SizeGrid, self._declared
        ):
            self._calibrate()

    @property
    def _grid(self) -> SizeGrid:
        return self._declared if self._calibration is None else self._calibration.curve.grid

    def _calibrate(self) -> None:
        self._calibration = Calibration.of(self.observations, self._declared)

    def _learn_error(self, shape: Shape, actual: float) -> None:
        """Remember by what share of the way from the nearest measured shape a prediction was
        off.
        """
        if self._calibration is not None:
            nearest = self._calibration.nearest(shape)
            self._errors.learn(self.predict(shape).bytes, actual, nearest.reserved)
