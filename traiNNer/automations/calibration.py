"""A curve and the measured shapes around it, as predictions need them: a value, computed from
observations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from traiNNer.automations.memory_curve import Curve, CurveSearch, SizeGrid
from traiNNer.automations.observations import Observations
from traiNNer.utils.shape import Shape

# Distance, in the logarithm of pixels, over which a residual is shared.
NEAR = 0.35
# In units of NEAR: beyond this a residual's weight is below 1e-4.
OUT_OF_SIGHT = 3.0
# Weight of the assumption that a residual is a shape's own and not shared, beside 1 for a neighbour
# at no distance.
SHRINKAGE = 0.4
# Distance at which a neighbour's reserved / allocated counts half of what it does at none.
RATIO_DISTANCE = 0.25
# Part of the slope between the smallest and the largest measured shape that a larger one goes on
# with at least; the rest is left for noise.
CONTINUED = 0.95


@dataclass(frozen=True)
class Point:
    """An observation beside the curve.

    Attributes:
        log_pixels: natural logarithm of the padded pixels.
        half_log_side: half of that of lq_size.
        weight: 1 for the latest shape, less for older ones.
        residual: bytes allocated beyond the curve.
        allocated: bytes.
        ratio: reserved / allocated.
    """

    log_pixels: float
    half_log_side: float
    weight: float
    residual: float
    allocated: float
    ratio: float

    @property
    def reserved(self) -> float:
        """Bytes that a step reserves."""
        return self.allocated * self.ratio


@dataclass(frozen=True)
class Calibration:
    """What predictions rest on.

    Attributes:
        curve: explains what was observed.
        points: what it leaves, in the order of the observations.
        largest: padded pixels of the largest shape.
    """

    curve: Curve
    points: tuple[Point, ...]
    largest: int

    @staticmethod
    def of(observations: Observations, declared: SizeGrid) -> Calibration:
        """What at least one observation tells. `declared` is what the network says of itself."""
        curve = CurveSearch(observations).best(declared)
        points = [
            Point(
                math.log(curve.grid.pixels(observed.shape)),
                0.5 * math.log(observed.shape.lq_size),
                observations.weight(observed),
                observed.allocated - curve.bytes(observed.shape),
                observed.allocated,
                observed.ratio,
            )
            for observed in observations.seen.values()
        ]
        largest = max(curve.grid.pixels(shape) for shape in observations.seen)
        return Calibration(curve, tuple(points), largest)

    def nearest(self, shape: Shape) -> Point:
        """The measured shape that is nearest in pixels, then in lq_size."""
        log_pixels = math.log(self.curve.grid.pixels(shape))
        half_log_side = 0.5 * math.log(shape.lq_size)
        return min(
            self.points,
            key=lambda p: abs(p.log_pixels - log_pixels) + abs(p.half_log_side - half_log_side),
        )

    def expect(self, shape: Shape) -> tuple[float, float]:
        """(bytes that a step at `shape` reserves, bytes of its neighbours' residual in it)."""
        residual, ratio = self._from_neighbours(shape)
        allocated = max(self.curve.bytes(shape) + residual, self._least(shape))
        return allocated * ratio, residual

    def _from_neighbours(self, shape: Shape) -> tuple[float, float]:
        """(bytes, reserved / allocated) of measured shapes, the near and the recent ones first.

        The bytes are what they took beyond the curve; far from all of them that is nothing.
        """
        log_pixels = math.log(self.curve.grid.pixels(shape))
        half_log_side = 0.5 * math.log(shape.lq_size)
        total = SHRINKAGE
        residual = 0.0
        ratio_total = 0.0
        ratio = 0.0
        for point in self.points:
            distance = abs(log_pixels - point.log_pixels)
            weight = point.weight / (RATIO_DISTANCE + distance)
            ratio_total += weight
            ratio += weight * point.ratio
            # a workspace depends on the side too, not on the pixels of the batch alone
            distance = (distance + abs(half_log_side - point.half_log_side)) / NEAR
            if distance < OUT_OF_SIGHT:
                weight = point.weight * math.exp(-distance * distance)
                total += weight
                residual += weight * point.residual
        return residual / total, ratio / ratio_total

    def _least(self, shape: Shape) -> float:
        """Bytes that a larger shape takes at least: what is there at no pixels is no more than the
        least ever seen.
        """
        factor = self.curve.grid.pixels(shape) / self.largest
        if factor <= 1.0 or self.curve.curvature != "none":
            return 1.0  # nothing to add: any curve is above one byte
        top = max(self.points, key=lambda point: point.log_pixels).allocated
        least = min(point.allocated for point in self.points)
        return top + CONTINUED * (top - least) * (factor - 1.0)
