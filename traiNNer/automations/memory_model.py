"""From the shapes measured so far to the memory of any other shape, with an honest margin.

The peak of a training step is affine in padded pixels, a + b * batch * frames * side^2, up to three
things: a kernel's workspace that one shape takes and its neighbour does not, curvature (global
attention, a second phase that becomes the larger one), and slow drift. So the fit is affine,
weighted towards what was seen recently, robust; a third term is admitted only where the residuals
ask for it; a shape's own residual is carried to its neighbours; and the margin comes from how well
earlier predictions came true.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from traiNNer.automations.least_squares import weighted_least_squares
from traiNNer.utils.memory import MemoryReading
from traiNNer.utils.shape import Shape

# Weight that an observation keeps each time another shape takes over.
FORGETTING = 0.9
# Least error to reckon with after 1, 2, ... shapes, as a share of the way from the nearest measured
# one.
GROWTH_FLOORS = (1.0, 0.5, 0.3, 0.25, 0.2, 0.15)
# Margin in units of the root mean square of the earlier errors.
ERROR_FACTOR = 2.0
PROVEN_MARGIN = 0.005
# Margins of what was measured (it repeats within its noise) and of what was not (workspaces), as
# shares of it.
NEW_MARGIN = 0.01
# Margin for another lq_size at as many pixels, as a share, for each factor of e between the sizes.
LATERAL_MARGIN = 0.03
# A step takes at most in proportion to its pixels, as it begins above nothing; curvature may add
# this share.
BEYOND_PROPORTION = 0.06
# Distance, in the logarithm of pixels, over which a residual is shared.
NEAR = 0.35
# How much of a neighbour's residual is taken for its own, not shared: 0.4 to 1 of weight.
SHRINKAGE = 0.4
MIN_SIGMA = 0.002
# Shapes from which on outliers are held down; among fewer, the one that tells the slope may look
# like one.
ROBUST_FROM = 7

# Windows that networks pad to without always saying so.
WINDOWS = (8, 16, 32, 64)
# Relative error of an affine fit from which on a third term is tried.
CURVED = 0.01
# Relative error of a fit from which on other windows are tried.
SUSPICIOUS = 0.02
# Relative change of a measured shape below which nothing is fitted anew.
SAME = 0.001
FAILURES_KEPT = 8

Curvature = Literal["none", "attention", "pixels", "border"]
CURVATURES: tuple[Curvature, ...] = ("attention", "pixels", "border")


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


@dataclass
class Observed:
    """What is known about one shape. `allocated` in bytes; `turn` counts changes of shape when it
    was last seen.
    """

    lq_size: int
    batch_size: int
    allocated: float
    ratio: float
    count: int
    turn: int


@dataclass(frozen=True)
class _Fit:
    intercept: float
    slope: float
    bend: float
    curvature: Curvature
    sigma: float  # relative
    points: tuple[_Point, ...] = ()
    largest: int = 0  # padded pixels


@dataclass(frozen=True)
class _Point:
    """An observation as predictions need it."""

    log_pixels: float
    half_log_side: float
    weight: float  # 1 for the latest shape, less for older ones
    residual: float  # bytes allocated beyond the fit
    allocated: float
    ratio: float


@dataclass
class MemoryModel:
    """Learns from readings, predicts for shapes. A pure function of what it was shown.

    Attributes:
        size_multiple: what the network pads sides to.
        frames: frames of a sample.
        history: shapes remembered; the one seen longest ago is forgotten first.
        window: what sides are padded to as the measurements tell: a multiple of size_multiple,
            mostly itself.
    """

    size_multiple: int = 1
    frames: int = 1
    history: int = 64
    window: int = field(init=False)
    _floor: int = 0  # bytes that are taken at no pixels, as far as is known
    _failed: list[tuple[int, int, int]] = field(
        default_factory=list
    )  # lq_size, batch_size, bytes that were too few
    _seen: dict[tuple[int, int], Observed] = field(default_factory=dict)
    _errors: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=6))
    _turn: int = 0
    _last: tuple[int, int] | None = None
    _fitted: _Fit | None = None

    def __post_init__(self) -> None:
        self.window = self.size_multiple

    def pixels(self, shape: Shape) -> int:
        """Padded LQ pixels of a batch."""
        return shape.pixels(self.frames, self.window)

    @property
    def count(self) -> int:
        """Shapes measured."""
        return len(self._seen)

    @property
    def largest(self) -> int:
        """Padded pixels of the largest shape that was measured; 0 before any was."""
        return self._fit().largest if self._seen else 0

    def largest_below(self, pixels: float) -> int:
        """Padded pixels of the largest measured shape that has at most `pixels`; 0 without one."""
        return max(
            (own for own in map(self._pixels_of, self._seen.values()) if own <= pixels), default=0
        )

    def knows(self, shape: Shape) -> bool:
        """Whether `shape` was measured."""
        return (shape.lq_size, shape.batch_size) in self._seen

    def observe(self, shape: Shape, reading: MemoryReading) -> None:
        """Take in the peaks of a window at one shape."""
        key = (shape.lq_size, shape.batch_size)
        self._floor = reading.baseline
        if key != self._last:
            self._last = key
            self._turn = self._turn + 1
        ratio = max(1.0, reading.reserved_peak / max(1, reading.allocated_peak))
        known = self._seen.pop(key, None)
        if known is None:
            if self.count >= 2:
                self._learn_error(shape, reading.reserved_peak)
            known = Observed(
                *key, allocated=reading.allocated_peak, ratio=ratio, count=0, turn=self._turn
            )
        before = (known.allocated * known.ratio, known.turn)
        known.count += 1
        step = max(1.0 / known.count, 0.3)  # a mean at first, then it follows
        known.allocated += step * (reading.allocated_peak - known.allocated)
        known.ratio += step * (ratio - known.ratio)
        known.turn = self._turn
        self._seen[key] = known  # at the end: last to be forgotten
        while len(self._seen) > self.history:
            del self._seen[next(iter(self._seen))]
        if (
            known.count == 1
            or self._turn != before[1]
            or abs(known.allocated * known.ratio / before[0] - 1) > SAME
        ):
            self._fitted = None
            self._fit()

    def observe_failure(self, shape: Shape, available: int) -> None:
        """A step at `shape` did not fit into `available` bytes: where less was expected, the
        expectation was wrong.
        """
        if self._seen and self.predict(shape).bytes < available:
            self._learn_error(shape, available)
            self._failed = [*self._failed, (shape.lq_size, shape.batch_size, available)][
                -FAILURES_KEPT:
            ]
            self._fitted = None
            self._fit()  # the window may turn out to be another

    def _least(self, fit: _Fit, pixels: int) -> float:
        """Bytes that a larger shape takes at least: what is there at no pixels is no more than the
        least ever seen.
        """
        factor = pixels / self.largest
        if factor <= 1.0 or fit.curvature != "none":
            return 1.0
        top = max(fit.points, key=lambda point: point.log_pixels).allocated
        return top + 0.95 * (top - min(point.allocated for point in fit.points)) * (factor - 1.0)

    def _learn_error(self, shape: Shape, actual: float) -> None:
        """Remember by what share of the way from the nearest measured shape a prediction was
        off.
        """
        expected = self.predict(shape).bytes
        base = self._nearest(self._fit(), shape)
        start = base.allocated * base.ratio
        way = max(abs(expected - start), abs(actual - start), 0.15 * actual)
        self._errors.append(((expected - actual) / way, way))

    def predict(self, shape: Shape) -> Prediction:
        """What a step at `shape` should reserve.

        Raises:
            LookupError: before anything was observed.
        """
        if not self._seen:
            raise LookupError("nothing was observed yet")
        known = self._seen.get((shape.lq_size, shape.batch_size))
        if known is not None:
            expected = known.allocated * known.ratio
            return Prediction(expected, PROVEN_MARGIN * expected)
        fit = self._fit()
        residual, ratio = self._from_neighbours(fit, shape)
        expected = (
            max(self._evaluate(fit, shape) + residual, self._least(fit, self.pixels(shape))) * ratio
        )
        return Prediction(expected, self._margin(fit, shape, expected, residual))

    def state_dict(self) -> dict[str, Any]:
        """Everything learned, as numbers, strings and lists."""
        return {
            "seen": [asdict(observed) for observed in self._seen.values()],
            "errors": [list(pair) for pair in self._errors],
            "failed": [list(failure) for failure in self._failed],
            "turn": self._turn,
            "last": None if self._last is None else list(self._last),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Know again what `state_dict` knew."""
        observed = [Observed(**values) for values in state["seen"]]
        self._seen = {(o.lq_size, o.batch_size): o for o in observed}
        self._errors = deque(
            [(float(e), float(w)) for e, w in state["errors"]], maxlen=self._errors.maxlen
        )
        self._failed = [(int(lq), int(batch), int(size)) for lq, batch, size in state["failed"]]
        self._turn = int(state["turn"])
        last = state["last"]
        self._last = None if last is None else (int(last[0]), int(last[1]))
        self._fitted = None
        if self._seen:
            self._fit()

    # -- the fit -----------------------------------------------------------------------------------

    def _pixels_of(self, observed: Observed) -> int:
        return self.pixels(Shape(observed.lq_size, observed.batch_size))

    def _bend(self, curvature: Curvature, shape: Shape) -> float:
        """The third term: side^4 for global attention, side for borders, pixels^2 for a second
        phase.
        """
        pixels = float(self.pixels(shape))
        if curvature == "attention":
            return pixels * Shape(shape.lq_size, 1).pixels(1, self.window)
        if curvature == "border":
            return pixels / shape.lq_size
        return pixels * pixels if curvature == "pixels" else 0.0

    def _evaluate(self, fit: _Fit, shape: Shape) -> float:
        return (
            fit.intercept
            + fit.slope * self.pixels(shape)
            + fit.bend * self._bend(fit.curvature, shape)
        )

    def _fit(self) -> _Fit:
        if self._fitted is None:
            fit = self._fit_anew()
            seen = self._seen.values()
            largest = max(self._pixels_of(observed) for observed in seen)
            self._fitted = replace(
                fit, points=tuple(self._point(fit, o) for o in seen), largest=largest
            )
        return self._fitted

    def _point(self, fit: _Fit, observed: Observed) -> _Point:
        shape = Shape(observed.lq_size, observed.batch_size)
        return _Point(
            math.log(self.pixels(shape)),
            0.5 * math.log(shape.lq_size),
            FORGETTING ** min(60, self._turn - observed.turn),
            observed.allocated - self._evaluate(fit, shape),
            observed.allocated,
            observed.ratio,
        )

    def _fit_anew(self) -> _Fit:
        """The fit with the declared window, or with a larger one where that explains far better
        what was seen.
        """
        self.window = self.size_multiple
        best = self._fit_with_window()
        cost = self._cost(best)
        if cost > SUSPICIOUS and self.count >= 2:
            candidates = [
                w for w in WINDOWS if w > self.size_multiple and w % self.size_multiple == 0
            ]
            chosen = self.size_multiple
            for self.window in candidates:
                fit = self._fit_with_window()
                if self._cost(fit) < 0.5 * cost:
                    best = fit
                    cost = self._cost(fit)
                    chosen = self.window
            self.window = chosen
        return best

    def _cost(self, fit: _Fit) -> float:
        """How badly a fit explains what was measured and what failed: a relative error."""
        squares = weights = 0.0
        for observed in self._seen.values():
            own = Shape(observed.lq_size, observed.batch_size)
            weight = FORGETTING ** min(60, self._turn - observed.turn)
            error = (observed.allocated - self._evaluate(fit, own)) / observed.allocated
            squares = squares + weight * error * error
            weights = weights + weight
        missed = [
            1 - self._evaluate(fit, Shape(lq, batch)) / size for lq, batch, size in self._failed
        ]
        return math.sqrt(squares / weights) + sum(max(0.0, miss) for miss in missed)

    def _fit_with_window(self) -> _Fit:
        seen = list(self._seen.values())
        largest = max(seen, key=self._pixels_of)
        if len({self._pixels_of(o) for o in seen}) == 1:
            return self._proportional(largest)
        best = self._regress(seen, "none")
        if best.slope <= 0 or best.intercept + best.slope * self._pixels_of(largest) <= 0:
            return self._proportional(largest)
        cost = self._cost(best)
        if len(seen) >= 5 and cost > CURVED:
            for curvature in CURVATURES:
                candidate = self._regress(seen, curvature)
                if (
                    candidate.bend > 0
                    and candidate.slope > 0
                    and self._cost(candidate) < 0.6 * cost
                ):
                    best = candidate
                    cost = self._cost(candidate)
        return best

    def _proportional(self, observed: Observed) -> _Fit:
        """With one size there is no slope. What a window did not begin with, in proportion, is the
        most it can be.
        """
        pixels = self._pixels_of(observed)
        floor = min(float(self._floor), observed.allocated)
        return _Fit(floor, (observed.allocated - floor) / pixels, 0.0, "none", 0.02)

    def _regress(self, seen: list[Observed], curvature: Curvature) -> _Fit:
        """Weighted least squares on relative errors, then twice again with outliers held down
        (Huber's weights).
        """
        shapes = [Shape(o.lq_size, o.batch_size) for o in seen]
        columns: list[Callable[[Shape], float]] = [lambda _: 1.0, lambda s: float(self.pixels(s))]
        if curvature != "none":
            columns.append(lambda s: self._bend(curvature, s))
        rows = [[column(shape) for column in columns] for shape in shapes]
        values = [o.allocated for o in seen]
        top = max(values)  # noise grows with what is taken, workspaces do not
        base = [
            FORGETTING ** min(60, self._turn - o.turn) / (o.allocated**2 + (0.5 * top) ** 2)
            for o in seen
        ]
        weights = list(base)
        sigma = 0.0
        solution = [0.0] * len(columns)
        for _ in range(3):
            solution = weighted_least_squares(rows, values, weights)
            relative = [
                abs(v - sum(c * x for c, x in zip(solution, row, strict=True))) / (v + 0.5 * top)
                for row, v in zip(rows, values, strict=True)
            ]
            freedom = max(1, len(seen) - len(columns))
            spread = 1.48 * sorted(relative)[len(relative) // 2] * math.sqrt(len(seen) / freedom)
            sigma = max(spread, MIN_SIGMA)
            if len(seen) < ROBUST_FROM:
                break
            weights = [
                b * min(1.0, 1.5 * sigma / max(r, 1e-12))
                for b, r in zip(base, relative, strict=True)
            ]
        bend = solution[2] if len(solution) > 2 else 0.0
        return _Fit(solution[0], solution[1], bend, curvature, sigma)

    def _from_neighbours(self, fit: _Fit, shape: Shape) -> tuple[float, float]:
        """(bytes, reserved / allocated) of measured shapes, the near and the recent ones first.

        The bytes are what they took beyond the fit; far from all of them that is nothing.
        """
        log_pixels = math.log(self.pixels(shape))
        half_log_side = 0.5 * math.log(shape.lq_size)
        total = SHRINKAGE
        residual = 0.0
        ratio_total = 0.0
        ratio = 0.0
        for point in fit.points:
            distance = abs(log_pixels - point.log_pixels)
            weight = point.weight / (0.25 + distance)
            ratio_total = ratio_total + weight
            ratio = ratio + weight * point.ratio
            distance = (distance + abs(half_log_side - point.half_log_side)) / NEAR
            if distance < 3.0:
                weight = point.weight * math.exp(-distance * distance)
                total = total + weight
                residual = residual + weight * point.residual
        return residual / total, ratio / ratio_total

    def _nearest(self, fit: _Fit, shape: Shape) -> _Point:
        """The measured shape that is nearest in pixels, then in lq_size."""
        log_pixels = math.log(self.pixels(shape))
        half_log_side = 0.5 * math.log(shape.lq_size)
        return min(
            fit.points,
            key=lambda p: abs(p.log_pixels - log_pixels) + abs(p.half_log_side - half_log_side),
        )

    def _margin(self, fit: _Fit, shape: Shape, expected: float, residual: float) -> float:
        """Bytes: a share of the way from the nearest measured shape, and a little for workspaces
        and other sides.
        """
        base = self._nearest(fit, shape)
        if self.count == 1:  # reckoned in proportion already
            return NEW_MARGIN * expected
        share = GROWTH_FLOORS[min(self.count, len(GROWTH_FLOORS)) - 1]
        if len(self._errors) >= 2:
            weights = [0.7**age * way for age, (_, way) in enumerate(reversed(self._errors))]
            squares = sum(
                w * e * e for w, (e, _) in zip(weights, reversed(self._errors), strict=True)
            ) / sum(weights)
            share = max(0.5 * share, min(1.0, ERROR_FACTOR * math.sqrt(squares)))
        sideways = abs(math.log(shape.lq_size) - 2 * base.half_log_side)
        start = base.allocated * base.ratio
        factor = self.pixels(shape) / math.exp(base.log_pixels)
        margin = share * abs(expected - start) + (NEW_MARGIN + LATERAL_MARGIN * sideways) * expected
        margin += max(0.0, base.residual - residual) * base.ratio  # it may be this shape's too
        in_proportion = start * max(1.0, factor) * (1.0 + BEYOND_PROPORTION) - expected
        return min(margin, max(in_proportion, NEW_MARGIN * expected)) if factor < 2.01 else margin
