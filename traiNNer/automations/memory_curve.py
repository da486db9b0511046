"""Bytes over pixels: a straight line, with a third term where the measurements ask for one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from traiNNer.automations.least_squares import weighted_least_squares
from traiNNer.automations.observations import Observations, Observed
from traiNNer.utils.shape import Shape

# Sides that networks pad to without always saying so.
PADDINGS = (8, 16, 32, 64)
# Relative error of a line from which on other paddings are tried. Noise and workspaces stay below.
SUSPICIOUS = 0.02
# A padding is believed that leaves less than this share of the error; the wrong one rarely does.
PADDING_GAIN = 0.5
# Relative error of a line from which on a third term is tried.
CURVED = 0.01
# A third term is believed that leaves less than this share of the error: with one more unknown the
# error falls in any case.
CURVATURE_GAIN = 0.6
# Shapes from which on a third term is tried: two more than it has unknowns.
CURVATURE_FROM = 5
# Shapes from which on outliers are held down; among fewer, the one that tells the slope may look
# like one.
ROBUST_FROM = 7
# Huber's bound in units of the spread, and what makes the median of normal errors their spread.
OUTLIER = 1.5
MEDIAN_TO_SPREAD = 1.48
# Least spread, relative: what a repeated step differs by. Below it no point is an outlier.
MIN_SPREAD = 0.002
# Share of the largest measurement that is added to each one's error: noise grows with what is
# taken, workspaces do not.
WORKSPACE_SHARE = 0.5

Curvature = Literal["none", "attention", "pixels", "border"]
CURVATURES: tuple[Curvature, ...] = ("attention", "pixels", "border")


@dataclass(frozen=True)
class SizeGrid:
    """How the network counts pixels.

    Attributes:
        padding: sides are padded to a multiple of this.
        frames: of a sample.
    """

    padding: int
    frames: int

    def pixels(self, shape: Shape) -> int:
        """Padded LQ pixels of a batch."""
        return shape.pixels(self.frames, self.padding)

    def third_term(self, curvature: Curvature, shape: Shape) -> float:
        """Side^4 for global attention, side for borders, pixels^2 for a second phase."""
        pixels = float(self.pixels(shape))
        if curvature == "attention":
            return pixels * Shape(shape.lq_size, 1).pixels(1, self.padding)
        if curvature == "border":
            return pixels / shape.lq_size
        return pixels * pixels if curvature == "pixels" else 0.0


@dataclass(frozen=True)
class Curve:
    """Bytes that tensors take at a shape.

    Attributes:
        grid: in which pixels are counted.
        intercept: bytes at no pixels.
        slope: bytes for each padded pixel.
        bend: bytes for each unit of the third term.
        curvature: which third term.
    """

    grid: SizeGrid
    intercept: float
    slope: float
    bend: float = 0.0
    curvature: Curvature = "none"

    def bytes(self, shape: Shape) -> float:
        """Bytes allocated at the peak of a step."""
        return (
            self.intercept
            + self.slope * self.grid.pixels(shape)
            + self.bend * self.grid.third_term(self.curvature, shape)
        )


@dataclass(frozen=True)
class CurveSearch:
    """Looks for the curve that explains what was observed. Changes nothing."""

    observations: Observations

    def best(self, declared: SizeGrid) -> Curve:
        """The curve with the declared padding, or with a larger one where that explains far better
        what was seen.
        """
        best = self._with(declared)
        cost = self.cost(best)
        if cost <= SUSPICIOUS or len(self.observations.seen) < 2:
            return best
        for padding in PADDINGS:
            if padding <= declared.padding or padding % declared.padding:
                continue
            curve = self._with(SizeGrid(padding, declared.frames))
            if self.cost(curve) < PADDING_GAIN * cost:
                best = curve
                cost = self.cost(curve)
        return best

    def cost(self, curve: Curve) -> float:
        """How badly a curve explains what was measured and what failed: a relative error."""
        squares = 0.0
        weights = 0.0
        for observed in self.observations.seen.values():
            weight = self.observations.weight(observed)
            error = (observed.allocated - curve.bytes(observed.shape)) / observed.allocated
            squares += weight * error * error
            weights += weight
        misses = [1 - curve.bytes(f.shape) / f.available for f in self.observations.failures]
        return math.sqrt(squares / weights) + sum(max(0.0, miss) for miss in misses)

    def _with(self, grid: SizeGrid) -> Curve:
        """The curve with a padding, straight unless a third term leaves far less of the error."""
        seen = list(self.observations.seen.values())
        pixels = [grid.pixels(observed.shape) for observed in seen]
        largest = max(seen, key=lambda observed: grid.pixels(observed.shape))
        if len(set(pixels)) == 1:
            return self._proportional(grid, largest)
        best = self._regress(grid, "none")
        # a step cannot take less for more pixels: such a line is noise or two kinds of steps
        if best.slope <= 0 or best.intercept + best.slope * max(pixels) <= 0:
            return self._proportional(grid, largest)
        cost = self.cost(best)
        if len(seen) < CURVATURE_FROM or cost <= CURVED:
            return best
        for curvature in CURVATURES:
            curve = self._regress(grid, curvature)
            rises = curve.bend > 0 and curve.slope > 0
            if rises and self.cost(curve) < CURVATURE_GAIN * cost:
                best = curve
                cost = self.cost(curve)
        return best

    def _proportional(self, grid: SizeGrid, observed: Observed) -> Curve:
        """With one size there is no slope. What a step did not begin with, in proportion, is the
        most it can be.
        """
        floor = min(float(self.observations.floor), observed.allocated)
        return Curve(grid, floor, (observed.allocated - floor) / grid.pixels(observed.shape))

    def _regress(self, grid: SizeGrid, curvature: Curvature) -> Curve:
        """Weighted least squares on relative errors, then twice again with outliers held down
        (P. J. Huber, Robust Estimation of a Location Parameter, 1964).
        """
        seen = list(self.observations.seen.values())
        columns: list[Callable[[Shape], float]] = [lambda _: 1.0, lambda s: float(grid.pixels(s))]
        if curvature != "none":
            columns.append(lambda shape: grid.third_term(curvature, shape))
        rows: list[list[float]] = []
        for observed in seen:
            rows.append([column(observed.shape) for column in columns])
        values = [observed.allocated for observed in seen]
        offset = WORKSPACE_SHARE * max(values)
        trust = [self.observations.weight(o) / (o.allocated**2 + offset**2) for o in seen]
        solution = weighted_least_squares(rows, values, trust)
        if len(seen) >= ROBUST_FROM:
            for _ in range(2):
                errors = [
                    abs(value - _dot(solution, row)) / (value + offset)
                    for row, value in zip(rows, values, strict=True)
                ]
                bound = OUTLIER * _spread(errors, unknowns=len(columns))
                weights = [
                    weight * min(1.0, bound / max(error, 1e-12))
                    for weight, error in zip(trust, errors, strict=True)
                ]
                solution = weighted_least_squares(rows, values, weights)
        bend = solution[2] if len(solution) > 2 else 0.0
        return Curve(grid, solution[0], solution[1], bend, curvature)


def _dot(coefficients: Sequence[float], row: Sequence[float]) -> float:
    return sum(c * x for c, x in zip(coefficients, row, strict=True))


def _spread(errors: Sequence[float], unknowns: int) -> float:
    """Standard deviation that outliers do not move; few points beside the unknowns hide part of
    it.
    """
    freedom = max(1, len(errors) - unknowns)
    median = sorted(errors)[len(errors) // 2]
    spread = MEDIAN_TO_SPREAD * median * math.sqrt(len(errors) / freedom)
    return max(spread, MIN_SPREAD)
