"""Between which ends the shape of a batch may move."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from traiNNer.utils.arithmetic import round_down, round_up
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.shape import Shape

# A rung is at least this many LQ pixels. Finer steps change use by less than noise and need more
# rungs to look at; coarser ones leave memory unused.
RUNG_PIXELS = 4


@dataclass(frozen=True)
class ShapeBounds:
    """Between which shapes the automation may choose, and what each end is due to.

    Attributes:
        min_lq_size: smallest side in LQ pixels.
        max_lq_size: largest side in LQ pixels.
        size_multiple: what the network wants each side to be a multiple of.
        min_batch_size: smallest batch.
        max_batch_size: largest batch.
        frames: frames of a sample (1 for images).
        elements_per_pixel: elements that the largest tensor of a step has for each LQ pixel of a
            frame.
        max_elements: a tensor must stay at or below this; kernels that index with 32 bits break
            above.
        max_pixels: LQ pixels that a batch has at most, of all frames.
        min_lq_due_to: what bounds lq_size below, for the log.
        max_lq_due_to: what bounds lq_size above, for the log.
        min_batch_due_to: what bounds the batch below, for the log.
        max_batch_due_to: what bounds the batch above, for the log.
        max_pixels_due_to: what bounds the pixels, for the log.

    Raises:
        OptionsError: if there is no shape between the ends; the message names both and what they
            are due to.
    """

    min_lq_size: int
    max_lq_size: int
    size_multiple: int = 1
    min_batch_size: int = 1
    max_batch_size: int = 2**16
    frames: int = 1
    elements_per_pixel: int = 3
    max_elements: int = 2**31 - 1
    max_pixels: int = 2**62
    min_lq_due_to: str = "the network"
    max_lq_due_to: str = "the images"
    min_batch_due_to: str = "the network"
    max_batch_due_to: str = "the samples"
    max_pixels_due_to: str = "the length of the run"

    def __post_init__(self) -> None:
        sizes = ("min_lq_size", "size_multiple", "min_batch_size", "frames", "elements_per_pixel")
        for name in sizes:
            if getattr(self, name) < 1:
                raise OptionsError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.min_batch_size > self.max_batch_size:
            raise OptionsError(
                f"the smallest batch, {self.min_batch_size} ({self.min_batch_due_to}), is above "
                f"the largest, {self.max_batch_size} ({self.max_batch_due_to})"
            )
        if not self.ladder:
            raise OptionsError(
                f"no lq_size is possible: at least {self.min_lq_size} ({self.min_lq_due_to}), at "
                f"most {self.max_lq_size} ({self.max_lq_due_to}), a multiple of "
                f"{self.size_multiple} (the network)"
            )
        if self.largest_batch(self.ladder[0]) < self.min_batch_size:
            raise OptionsError(
                f"even lq_size {self.ladder[0]} with batch {self.min_batch_size} has more than "
                f"{self.whole_batch(self.ladder[0])}; lower min_lq_size or the number of frames"
            )

    @property
    def step(self) -> int:
        """LQ pixels from one rung to the next."""
        return math.lcm(self.size_multiple, RUNG_PIXELS)

    @cached_property
    def ladder(self) -> tuple[int, ...]:
        """The sizes that may be chosen, ascending: the smallest the network takes, then multiples
        of `step`.

        The ends that the bounds allow are rungs too, so that images of 90 pixels are not left at
        88.
        """
        multiple = self.size_multiple
        step = self.step
        first = round_up(self.min_lq_size, multiple)
        last = round_down(self.max_lq_size, multiple)
        if first > last:
            return ()
        between = range(round_up(first, step), last + 1, step)
        return tuple(sorted({first, last, *between}))

    @property
    def smallest(self) -> Shape:
        """The shape that needs least memory."""
        return Shape(self.ladder[0], self.min_batch_size)

    def largest_batch(self, lq_size: int) -> int:
        """The largest batch at `lq_size`: max_batch_size, or what keeps every tensor within
        max_elements and the batch within max_pixels.
        """
        pixels = Shape(lq_size, 1).pixels(self.frames)
        elements = pixels * self.elements_per_pixel
        return min(self.max_batch_size, self.max_elements // elements, self.max_pixels // pixels)

    def contains(self, shape: Shape) -> bool:
        """Whether `shape` may be chosen."""
        return shape.lq_size in self.ladder and (
            self.min_batch_size <= shape.batch_size <= self.largest_batch(shape.lq_size)
        )

    def nearest(self, shape: Shape) -> Shape:
        """The shape within the bounds that is nearest to `shape`, never larger than it where that
        is possible.
        """
        below = [side for side in self.ladder if side <= shape.lq_size]
        lq_size = below[-1] if below else self.ladder[0]
        batch = max(self.min_batch_size, min(shape.batch_size, self.largest_batch(lq_size)))
        return Shape(lq_size, batch)

    def ceiling(self, shape: Shape) -> list[str]:
        """What keeps `shape` from growing: nothing (an empty list) while either of its two sizes
        can grow.
        """
        reasons: list[str] = []
        larger = [side for side in self.ladder if side > shape.lq_size]
        # a larger side may leave no batch at all within the elements
        lq_open = any(self.largest_batch(side) >= self.min_batch_size for side in larger)
        if lq_open or shape.batch_size < self.largest_batch(shape.lq_size):
            return reasons
        ends_at_elements = shape.lq_size != self.ladder[-1]
        whole = self.whole_batch(shape.lq_size)
        reasons.append(
            whole if ends_at_elements else f"lq_size {shape.lq_size}: {self.max_lq_due_to}"
        )
        if shape.batch_size == self.max_batch_size:
            reasons.append(f"batch {shape.batch_size}: {self.max_batch_due_to}")
        elif whole not in reasons:
            reasons.append(whole)
        return reasons

    def whole_batch(self, lq_size: int) -> str:
        """What bounds patch and batch together."""
        pixels = Shape(lq_size, 1).pixels(self.frames)
        if self.max_pixels // pixels < self.max_elements // (pixels * self.elements_per_pixel):
            return f"{self.max_pixels:,} pixels in a batch: {self.max_pixels_due_to}"
        limit = "2^31" if self.max_elements == 2**31 - 1 else str(self.max_elements)
        return f"{limit} elements in a tensor"

    def describe(self) -> str:
        """Both ends of both sizes, and what each is due to."""
        together = ""
        if self.max_pixels < Shape(self.ladder[-1], self.max_batch_size).pixels(self.frames):
            together = (
                f"\n  at most {self.max_pixels:,} pixels in a batch ({self.max_pixels_due_to})"
            )
        return (
            f"lq_size {self.ladder[0]} ({self.min_lq_due_to}) to {self.ladder[-1]} "
            f"({self.max_lq_due_to}), batch {self.min_batch_size} ({self.min_batch_due_to}) to "
            f"{self.max_batch_size} ({self.max_batch_due_to}){together}"
        )

    def intersected(self, other: ShapeBounds) -> ShapeBounds:
        """The shapes that both allow; each end is due to whoever sets it.

        Raises:
            OptionsError: if there is none.
        """
        changes: dict[str, int | str] = {
            "size_multiple": math.lcm(self.size_multiple, other.size_multiple),
            "frames": max(self.frames, other.frames),
            "elements_per_pixel": max(self.elements_per_pixel, other.elements_per_pixel),
            "max_elements": min(self.max_elements, other.max_elements),
        }
        if other.max_pixels < self.max_pixels:
            changes["max_pixels"] = other.max_pixels
            changes["max_pixels_due_to"] = other.max_pixels_due_to
        if other.min_lq_size > self.min_lq_size:
            changes["min_lq_size"] = other.min_lq_size
            changes["min_lq_due_to"] = other.min_lq_due_to
        if other.max_lq_size < self.max_lq_size:
            changes["max_lq_size"] = other.max_lq_size
            changes["max_lq_due_to"] = other.max_lq_due_to
        if other.min_batch_size > self.min_batch_size:
            changes["min_batch_size"] = other.min_batch_size
            changes["min_batch_due_to"] = other.min_batch_due_to
        if other.max_batch_size < self.max_batch_size:
            changes["max_batch_size"] = other.max_batch_size
            changes["max_batch_due_to"] = other.max_batch_due_to
        return replace(self, **changes)

    def narrowed(
        self,
        *,
        min_lq_size: int | None = None,
        max_lq_size: int | None = None,
        min_batch_size: int | None = None,
        max_batch_size: int | None = None,
    ) -> ShapeBounds:
        """These bounds, narrowed by options that a user has set. Sides must be on the network's
        grid.

        Raises:
            OptionsError: naming every option that is off the grid, below what the network takes or
                above the other end, all together.
        """
        problems = list(self._misfits(min_lq_size, max_lq_size, min_batch_size, max_batch_size))
        if problems:
            raise OptionsError("\n".join(problems))
        changes: dict[str, int | str] = {}
        # a maximum beyond what there is stays no bound, and is not said to be one
        if min_lq_size is not None:
            changes |= {"min_lq_size": min_lq_size, "min_lq_due_to": "min_lq_size"}
        if max_lq_size is not None and max_lq_size <= self.max_lq_size:
            changes |= {"max_lq_size": max_lq_size, "max_lq_due_to": "max_lq_size"}
        if min_batch_size is not None:
            changes |= {"min_batch_size": min_batch_size, "min_batch_due_to": "min_batch_size"}
        if max_batch_size is not None and max_batch_size <= self.max_batch_size:
            changes |= {"max_batch_size": max_batch_size, "max_batch_due_to": "max_batch_size"}
        return replace(self, **changes)

    def _misfits(
        self, min_lq: int | None, max_lq: int | None, min_batch: int | None, max_batch: int | None
    ) -> Iterable[str]:
        for name, value in (("min_lq_size", min_lq), ("max_lq_size", max_lq)):
            if value is not None and value % self.size_multiple:
                below = max(self.size_multiple, round_down(value, self.size_multiple))
                yield (
                    f"{name} is {value}; the network needs a multiple of {self.size_multiple}, for "
                    f"example {below} or {below + self.size_multiple}"
                )
        if min_lq is not None and min_lq < self.min_lq_size:
            yield (
                f"min_lq_size is {min_lq}; expected at least {self.min_lq_size} "
                f"({self.min_lq_due_to})"
            )
        if min_lq is not None and min_lq > self.max_lq_size:
            yield f"min_lq_size is {min_lq}; {self.max_lq_due_to} allow at most {self.max_lq_size}"
        # the other end is the one that the user sets too, if he does
        least_lq = min_lq or self.min_lq_size
        if max_lq is not None and max_lq < least_lq:
            yield f"max_lq_size is {max_lq}, below the smallest lq_size, {least_lq}"
        if min_batch is not None and min_batch < self.min_batch_size:
            yield (
                f"min_batch_size is {min_batch}; expected at least {self.min_batch_size} "
                f"({self.min_batch_due_to})"
            )
        least_batch = min_batch or self.min_batch_size
        if max_batch is not None and max_batch < least_batch:
            yield f"max_batch_size is {max_batch}, below the smallest batch, {least_batch}"
