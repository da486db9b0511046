"""How far predictions were off, and what the next one has to keep free for that."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from traiNNer.automations.calibration import Calibration
from traiNNer.utils.shape import Shape

# Least error that is allowed for after 1, 2, ... shapes, as a share of the way from the nearest
# measured one: with one shape nothing tells the slope.
GROWTH_FLOORS = (1.0, 0.5, 0.3, 0.25, 0.2, 0.15)
# Earlier errors that count, and how much each counts of the one after it: predictions get better
# with every shape, so old errors say too much.
ERRORS_KEPT = 6
ERROR_MEMORY = 0.7
# Errors that make a root mean square; before, the floors alone speak.
ERRORS_NEEDED = 2
# Margin in units of that root mean square: two standard deviations.
ERROR_FACTOR = 2.0
# Least way, as a share of what was measured: over a shorter one a workspace looks like a slope.
LEAST_WAY = 0.15
# Margin of what was not measured, as a share of it: workspaces.
NEW_MARGIN = 0.01
# Margin for another lq_size at as many pixels, as a share, for each factor of e between the sizes.
LATERAL_MARGIN = 0.03
# A step takes at most in proportion to its pixels, as it begins above nothing; curvature may add
# this share.
BEYOND_PROPORTION = 0.06
# Factor of pixels up to which that holds: over two, curvature may add more.
IN_PROPORTION = 2.01


@dataclass
class PredictionErrors:
    """The last errors as (share of the way from the nearest measured shape, that way in bytes)."""

    recent: list[tuple[float, float]] = field(default_factory=list)

    def learn(self, expected: float, actual: float, start: float) -> None:
        """Remember a prediction and what came, in bytes; `start` is what the nearest measured shape
        took.
        """
        way = max(abs(expected - start), abs(actual - start), LEAST_WAY * actual)
        self.recent = [*self.recent, ((expected - actual) / way, way)][-ERRORS_KEPT:]

    def margin(
        self, calibration: Calibration, shape: Shape, expected: float, residual: float
    ) -> float:
        """Bytes to keep free at a shape that was not measured: a share of the way from the nearest
        measured one, and a little for workspaces and other sides.

        Args:
            calibration: what the prediction rests on.
            shape: what was predicted.
            expected: bytes that are predicted.
            residual: bytes in it that come from neighbours.
        """
        count = len(calibration.points)
        if count == 1:  # the prediction is in proportion already, the most that it can be
            return NEW_MARGIN * expected
        base = calibration.nearest(shape)
        sideways = abs(math.log(shape.lq_size) - 2 * base.half_log_side)
        start = base.reserved
        margin = self._share(count) * abs(expected - start)
        margin += (NEW_MARGIN + LATERAL_MARGIN * sideways) * expected
        # what the nearest shape took beyond the curve may be this shape's too
        margin += max(0.0, base.residual - residual) * base.ratio
        factor = calibration.curve.grid.pixels(shape) / math.exp(base.log_pixels)
        if factor >= IN_PROPORTION:
            return margin
        in_proportion = start * max(1.0, factor) * (1.0 + BEYOND_PROPORTION) - expected
        return min(margin, max(in_proportion, NEW_MARGIN * expected))

    def _share(self, count: int) -> float:
        """The share of the way from the nearest measured shape, with `count` measured ones."""
        floor = GROWTH_FLOORS[min(count, len(GROWTH_FLOORS)) - 1]
        if len(self.recent) < ERRORS_NEEDED:
            return floor
        squares = 0.0
        weights = 0.0
        for age, (error, way) in enumerate(reversed(self.recent)):
            # an error over a long way says more than one over a short one
            weight = ERROR_MEMORY**age * way
            squares += weight * error * error
            weights += weight
        # what came true may halve the floor and no more: a lucky streak is short
        return max(0.5 * floor, min(1.0, ERROR_FACTOR * math.sqrt(squares / weights)))
