"""Resizing: the way to LQ's size, and the detours that pictures take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from traiNNer.ops.degradations.base import Draws, Frames, Interval, Share, Within
from traiNNer.ops.resize import ResizeMode, resize
from traiNNer.utils.registry import DEGRADATIONS

Modes = Annotated[list[ResizeMode], Field(min_length=1)]
_MODES: tuple[ResizeMode, ...] = ("box", "bilinear", "bicubic")


def _adding_up(shares: tuple[float, ...]) -> tuple[float, ...]:
    # Thirds are written with a few digits.
    if abs(sum(shares) - 1) > 0.01:
        raise PydanticCustomError(
            "shares", "the shares add up to {total} and not to 1", {"total": round(sum(shares), 4)}
        )
    return shares


def resize_frames(
    frames: Frames, sides: tuple[int, int], mode: ResizeMode, *, antialias: bool
) -> Frames:
    """Frames (T, H, W, 3) at other sides (height, width)."""
    if frames.shape[1:3] == sides:
        return frames
    planes = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    return resize(planes, sides, mode, antialias=antialias).permute(0, 2, 3, 1).numpy()


@DEGRADATIONS.register("resize", aliases=("rescale",))
class Resize:
    """Larger, smaller or neither, by a drawn factor.

    Args:
        down: factors when it becomes smaller.
        up: factors when it becomes larger.
        shares: how often it becomes larger, smaller, or stays as it is; they add up to 1.
        modes: kernels, of which one is drawn.
        antialias: share of the samples whose kernel widens when shrinking.
        relative_to: what the factors multiply: the size at this point, or the size of LQ.
    """

    def __init__(
        self,
        down: Annotated[Interval, Within(0.02, 1)] = (0.15, 1.0),
        up: Annotated[Interval, Within(1, 8)] = (1.0, 1.5),
        shares: Annotated[tuple[Share, Share, Share], AfterValidator(_adding_up)] = (0.2, 0.7, 0.1),
        modes: Modes = list(_MODES),  # noqa: B006 (nobody changes it)
        antialias: Share = 0.0,
        relative_to: Literal["present", "lq"] = "present",
    ) -> None:
        self.down = down
        self.up = up
        self.shares = shares
        self.modes: Sequence[ResizeMode] = modes
        self.antialias = antialias
        self.relative_to = relative_to

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        way = draws.choice("way", ("up", "down", "keep"), self.shares)
        factor = 1.0
        if way != "keep":
            factor = draws.between("factor", self.up if way == "up" else self.down)
        mode = draws.choice("mode", self.modes)
        antialias = draws.chance("antialias", self.antialias)
        before = frames.shape[1:3] if self.relative_to == "present" else draws.lq_sides
        height, width = (max(1, round(side * factor)) for side in before)
        return resize_frames(frames, (height, width), mode, antialias=antialias)


@DEGRADATIONS.register("to_lq", aliases=("resize_to_lq",))
class ToLq:
    """To the size that LQ has. Steps behind it see LQ's own pixels; without this step it comes
    last, with the dataset's `lq_resize_mode`.

    Args:
        modes: kernels, of which one is drawn.
        antialias: share of the samples whose kernel widens when shrinking.
    """

    def __init__(
        self,
        modes: Modes = list(_MODES),  # noqa: B006 (nobody changes it)
        antialias: Share = 0.0,
    ) -> None:
        self.modes: Sequence[ResizeMode] = modes
        self.antialias = antialias

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        mode = draws.choice("mode", self.modes)
        antialias = draws.chance("antialias", self.antialias)
        return resize_frames(frames, draws.lq_sides, mode, antialias=antialias)
