"""What every degradation step is given, and how the ranges of its options are written.

A step is a class: its arguments are the options, and a call damages one sample. Pixels are frames
(T, H, W, 3) in RGB, float32 in [0, 1]; a picture has one frame. What all frames of a clip have in
common (a kernel, a quality) is drawn once; noise is drawn for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

# They are float32. What numpy makes of them has a wider type for a checker.
Frames: TypeAlias = NDArray[np.floating[Any]]
Frame: TypeAlias = NDArray[np.floating[Any]]

Interval = float | tuple[float, float]
"""A number, or the least and the largest that it is drawn between."""
WholeInterval = int | tuple[int, int]
"""A whole number, or the least and the largest that it is drawn between, both included."""
Share = Annotated[float, Field(ge=0, le=1)]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Within:
    """Checks an interval: its order, and that it lies between two bounds."""

    ge: float
    le: float = math.inf

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> Any:
        if value is None:
            return None
        least, most = ends(value)
        if least > most:
            raise PydanticCustomError(
                "interval",
                "the range is the wrong way round: {least} to {most}; the smaller number comes "
                "first",
                {"least": least, "most": most},
            )
        if not self.ge <= least <= most <= self.le:
            bounds = f"at least {self.ge:g}"
            if math.isfinite(self.le):
                bounds += f" and at most {self.le:g}"
            raise PydanticCustomError("interval", "it has to be {bounds}", {"bounds": bounds})
        return value


def ends(interval: Interval) -> tuple[float, float]:
    """Both ends of an interval; of a number twice itself."""
    return interval if isinstance(interval, tuple) else (interval, interval)


@dataclass(slots=True)
class Draws:
    """What one step draws for one sample, by name, and the generator that it all comes from.

    Args:
        seed: decides everything that is drawn.
        lq_sides: height and width in pixels that LQ will have in the end.
    """

    seed: int
    lq_sides: tuple[int, int]
    values: dict[str, Any] = field(default_factory=dict)
    generator: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)

    def between(self, name: str, interval: Interval) -> float:
        """A number of an interval, each as likely as the others."""
        least, most = ends(interval)
        return self._note(name, float(self.generator.uniform(least, most)))

    def whole(self, name: str, interval: WholeInterval) -> int:
        """A whole number of an interval, both ends included."""
        least, most = ends(interval)
        return self._note(name, int(self.generator.integers(int(least), int(most) + 1)))

    def odd(self, name: str, interval: WholeInterval) -> int:
        """An odd number of an interval; ends that are even count as the next one above."""
        least, most = (int(end) // 2 for end in ends(interval))
        return self._note(name, 2 * int(self.generator.integers(least, most + 1)) + 1)

    def chance(self, name: str, probability: float) -> bool:
        """True as often as the probability says."""
        return self._note(name, bool(self.generator.random() < probability))

    def choice(
        self, name: str, items: Sequence[Item], weights: Sequence[float] | None = None
    ) -> Item:
        """One of the items, drawn by weight."""
        if weights is None:
            place = int(self.generator.integers(len(items)))
        else:
            shares = np.asarray(weights, dtype=np.float64)
            place = int(self.generator.choice(len(items), p=shares / shares.sum()))
        return self._note(name, items[place])

    def _note(self, name: str, value: Item) -> Item:
        self.values[name] = value
        return value


class Degradation(Protocol):
    """One kind of damage, within the ranges that its options give."""

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        """Damage one sample.

        Args:
            frames: (T, H, W, 3), RGB, in [0, 1]; it may be changed in place.
            draws: what to draw from.

        Returns:
            (T, h, w, 3). It may leave [0, 1]; whoever calls clips it.
        """
        ...


def each(frames: Frames, change: Callable[[Frame], NDArray[Any]]) -> Frames:
    """`change` of every frame (H, W, 3)."""
    if len(frames) == 1:
        return np.asarray(change(frames[0]), dtype=np.float32)[None]
    return np.stack([np.asarray(change(frame), dtype=np.float32) for frame in frames])


def to_levels(frame: Frame) -> NDArray[np.uint8]:
    """The nearest of 256 levels."""
    return (np.clip(frame, 0, 1) * 255 + 0.5).astype(np.uint8)


def from_levels(levels: NDArray[np.uint8]) -> Frame:
    """Levels of 255 as numbers in [0, 1]."""
    return levels.astype(np.float32) / np.float32(255)
