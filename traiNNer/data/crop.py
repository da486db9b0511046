"""Where a training crop lies and how it is augmented: a pure function of a seed, the same for GT
and LQ.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

import numpy as np

from traiNNer.utils.images import Pixels

SmallImages = Literal["error", "skip", "pad"]


@dataclass(frozen=True, slots=True)
class CropPlan:
    """Flips and the place of the crop, drawn before the size of the crop is known.

    `left` and `top` are in [0, 1): shares of all the places where the crop fits.
    """

    hflip: bool
    vflip: bool
    transpose: bool
    left: float
    top: float


@dataclass(frozen=True, slots=True)
class Placement:
    """A plan applied to one LQ image of `height` x `width` pixels: where the crop of any size lies.

    Crops of one placement are nested: with u the drawn share, floor(u (H - s + 1)) lies between
    floor(u (H - S + 1)) and that plus S - s for every s < S. So the small crop can be cut out of
    the large one, without the image.
    """

    plan: CropPlan
    height: int
    width: int

    def corner(self, lq_size: int) -> tuple[int, int]:
        """Top and left of the crop in LQ pixels; 0 along a side that is shorter than the crop (it
        is padded there).
        """
        # Rounding down and one more place than there is room make all places equally likely.
        places_down = max(self.height, lq_size) - lq_size + 1
        places_right = max(self.width, lq_size) - lq_size + 1
        return int(self.plan.top * places_down), int(self.plan.left * places_right)

    def oriented_corner(self, lq_size: int) -> tuple[int, int]:
        """Top and left of the crop in the image that is flipped as the plan says."""
        top, left = self.corner(lq_size)
        left = max(self.width, lq_size) - lq_size - left if self.plan.hflip else left
        top = max(self.height, lq_size) - lq_size - top if self.plan.vflip else top
        return (left, top) if self.plan.transpose else (top, left)

    def corner_inside(self, lq_size: int, outer: int) -> tuple[int, int]:
        """Top and left of the crop of `lq_size` within the augmented crop of `outer` LQ pixels."""
        room = outer - lq_size
        inner_top, inner_left = self.corner(lq_size)
        outer_top, outer_left = self.corner(outer)
        # Rounding of the floats may not push it over the edge.
        top = min(inner_top - outer_top, room)
        left = min(inner_left - outer_left, room)
        # The outer crop is flipped already, so the same pixels are counted from its other end.
        left = room - left if self.plan.hflip else left
        top = room - top if self.plan.vflip else top
        return (left, top) if self.plan.transpose else (top, left)


def draw_plan(seed: int, use_hflip: bool, use_rot: bool) -> CropPlan:
    """Draw a plan.

    Everything is drawn always and in one order, so that no option and no size of the crop changes
    what the others get.

    Args:
        seed: of the request.
        use_hflip: allow left and right to change places.
        use_rot: allow up and down, and rows and columns, to change places (with hflip: all 8
            orientations).
    """
    draw = random.Random(seed)  # noqa: S311 - no cryptography here
    # Three flips are all eight orientations of a square: a turn by 90 degrees is a transposition
    # and a flip.
    hflip, vflip, transpose = (draw.random() < 0.5 for _ in range(3))
    return CropPlan(
        hflip and use_hflip, vflip and use_rot, transpose and use_rot, draw.random(), draw.random()
    )


def cut(pixels: Pixels, placement: Placement, lq_size: int, factor: int) -> Pixels:
    """The crop of an image (H, W, 3), as a view.

    Args:
        pixels: the whole image; both sides at least `lq_size * factor`.
        placement: where and how.
        lq_size: side of the LQ crop in pixels.
        factor: 1 for LQ, the scale for GT; a crop of GT lies exactly over that of LQ.
    """
    top, left = (place * factor for place in placement.corner(lq_size))
    view = pixels[top : top + lq_size * factor, left : left + lq_size * factor]
    return oriented(view, placement.plan)


def oriented(view: Pixels, plan: CropPlan) -> Pixels:
    """A crop (h, w, 3) flipped as the plan says, as a view."""
    # Views with negative strides; the one copy is made when it becomes a tensor.
    if plan.hflip:
        view = view[:, ::-1]
    if plan.vflip:
        view = view[::-1]
    return view.swapaxes(0, 1) if plan.transpose else view


def pad_to(pixels: Pixels, side: int) -> Pixels:
    """Mirror an image (H, W, 3) at its right and lower edge until both sides are at least `side`
    pixels.

    The edge pixel is repeated: only so do mirrored GT and LQ stay aligned.
    """
    height, width = pixels.shape[:2]
    bottom = max(0, side - height)
    right = max(0, side - width)
    if not bottom and not right:
        return pixels
    # Symmetric repeats the edge pixel, as many times over as the side needs.
    return np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="symmetric")
