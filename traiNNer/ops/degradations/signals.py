"""What cameras, tapes and broadcasts do to a picture before it is a file."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from traiNNer.ops.degradations.base import Draws, Frame, Frames, Interval, Share, Within, each
from traiNNer.utils.registry import DEGRADATIONS

Subsampling = Literal["420", "422", "411", "410"]
Subsamplings = Annotated[list[Subsampling], Field(min_length=1)]
Methods = Annotated[list[Literal["bilinear", "edge_aware"]], Field(min_length=1)]
# LQ pixels that share one colour, down and along the rows.
_SHARED = {"420": (2, 2), "422": (1, 2), "411": (1, 4), "410": (4, 4)}
Pattern = Literal["rggb", "bggr", "grbg", "gbrg"]
# The channels of the squares of two by two pixels behind a sensor's filter.
_PATTERNS = {
    "rggb": ((0, 1), (1, 2)),
    "bggr": ((2, 1), (1, 0)),
    "grbg": ((1, 0), (2, 1)),
    "gbrg": ((1, 2), (0, 1)),
}
# OpenCV names a pattern by the second row's second and third pixel.
_DEMOSAICING = {
    ("rggb", "bilinear"): cv2.COLOR_BayerBG2RGB,
    ("bggr", "bilinear"): cv2.COLOR_BayerRG2RGB,
    ("grbg", "bilinear"): cv2.COLOR_BayerGB2RGB,
    ("gbrg", "bilinear"): cv2.COLOR_BayerGR2RGB,
    ("rggb", "edge_aware"): cv2.COLOR_BayerBG2RGB_EA,
    ("bggr", "edge_aware"): cv2.COLOR_BayerRG2RGB_EA,
    ("grbg", "edge_aware"): cv2.COLOR_BayerGB2RGB_EA,
    ("gbrg", "edge_aware"): cv2.COLOR_BayerGR2RGB_EA,
}
_WHITE_16 = 65535
_BORDER = cv2.BORDER_REFLECT_101


def to_luma_and_colors(frame: Frame) -> Frame:
    """(H, W, 3) in RGB to Y, Cr, Cb of the full range (ITU-R BT.601)."""
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb), dtype=np.float32)


def to_rgb(frame: Frame) -> Frame:
    """(H, W, 3) in Y, Cr, Cb to RGB."""
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_YCrCb2RGB), dtype=np.float32)


def moved(plane: NDArray[np.floating], right: float, down: float) -> NDArray[np.floating]:
    """A picture (H, W) or (H, W, C) moved by parts of a pixel, linearly between pixels, mirrored at
    the border.
    """
    height, width = plane.shape[:2]
    columns = np.arange(width, dtype=np.float32)[None, :].repeat(height, 0) - np.float32(right)
    rows = np.arange(height, dtype=np.float32)[:, None].repeat(width, 1) - np.float32(down)
    return sampled(plane, columns, rows)


def sampled(
    plane: NDArray[np.floating], columns: NDArray[np.floating], rows: NDArray[np.floating]
) -> NDArray[np.floating]:
    """A picture's values at other places (x, y) of each pixel, linearly between pixels. OpenCV
    rounds places to 32nds of a pixel.
    """
    found = cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderMode=_BORDER)
    return np.asarray(found, dtype=np.float32)


@DEGRADATIONS.register("chroma_subsampling")
class ChromaSubsampling:
    """Colours at a lower resolution than the light.

    Args:
        subsampling: of which one is drawn; 420 halves colours in both directions, 422 in the rows,
            411 quarters them in the rows, 410 in both directions.
        smooth: share of the samples whose colours are interpolated again, and not repeated.
    """

    def __init__(
        self,
        subsampling: Subsamplings = ["420", "422"],  # noqa: B006 (nobody changes it)
        smooth: Share = 0.7,
    ) -> None:
        self.subsampling = subsampling
        self.smooth = smooth

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        down, right = _SHARED[draws.choice("subsampling", self.subsampling)]
        back = cv2.INTER_LINEAR if draws.chance("smooth", self.smooth) else cv2.INTER_NEAREST
        height, width = frames.shape[1:3]
        sides = (math.ceil(width / right), math.ceil(height / down))

        def shared(frame: Frame) -> Frame:
            planes = to_luma_and_colors(frame)
            # Whole squares, so that a colour is the mean of the pixels that share it.
            whole = cv2.copyMakeBorder(
                planes[..., 1:],
                0,
                sides[1] * down - height,
                0,
                sides[0] * right - width,
                cv2.BORDER_REPLICATE,
            )
            colors = cv2.resize(whole, sides, interpolation=cv2.INTER_AREA)
            full = cv2.resize(colors, (sides[0] * right, sides[1] * down), interpolation=back)
            planes[..., 1:] = full[:height, :width]
            return to_rgb(planes)

        return each(frames, shared)


@DEGRADATIONS.register("chromatic_aberration")
class ChromaticAberration:
    """Red and blue lie beside green, as behind a simple lens away from its middle.

    Args:
        shift: of red, in pixels; that of blue goes the other way.
    """

    def __init__(self, shift: Annotated[Interval, Within(0, 20)] = (0.2, 1.5)) -> None:
        self.shift = shift

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        shift = draws.between("shift", self.shift)
        angle = draws.between("angle", (-math.pi, math.pi))
        right = shift * math.cos(angle)
        down = shift * math.sin(angle)

        def spread(frame: Frame) -> Frame:
            red = moved(np.ascontiguousarray(frame[..., 0]), right, down)
            blue = moved(np.ascontiguousarray(frame[..., 2]), -right, -down)
            return np.stack([red, frame[..., 1], blue], axis=-1)

        return each(frames, spread)


@DEGRADATIONS.register("demosaic", aliases=("bayer",))
class Demosaic:
    """One colour in each pixel, as behind a camera's filter, and the others interpolated.

    Args:
        methods: of interpolation, of which one is drawn.
    """

    def __init__(
        self,
        methods: Methods = ["bilinear", "edge_aware"],  # noqa: B006 (nobody changes it)
    ) -> None:
        self.methods = methods

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        method = draws.choice("method", self.methods)
        pattern = draws.choice("pattern", tuple(_PATTERNS))

        def interpolated(frame: Frame) -> Frame:
            levels = (np.clip(frame, 0, 1) * _WHITE_16 + 0.5).astype(np.uint16)
            # Mirrored around the edge pixels, which keeps the pattern; OpenCV leaves out the rim.
            levels = np.pad(levels, ((2, 2), (2, 2), (0, 0)), mode="reflect")
            mosaic = np.empty(levels.shape[:2], dtype=np.uint16)
            for row, channels in enumerate(_PATTERNS[pattern]):
                for column, channel in enumerate(channels):
                    mosaic[row::2, column::2] = levels[row::2, column::2, channel]
            rgb = cv2.demosaicing(mosaic, _DEMOSAICING[pattern, method])
            return np.asarray(rgb[2:-2, 2:-2], dtype=np.float32) / np.float32(_WHITE_16)

        return each(frames, interpolated)


@DEGRADATIONS.register("interlace")
class Interlace:
    """Every second line is of another moment: combs at what moves. In a clip it is of the next
    frame; in a picture it is moved sideways.

    Args:
        shift: how far lines are moved in a picture, in pixels.
    """

    def __init__(self, shift: Annotated[Interval, Within(0, 50)] = (0.5, 6.0)) -> None:
        self.shift = shift

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        first = draws.choice("first_line", (0, 1))
        if len(frames) > 1:
            later = np.concatenate([frames[1:], frames[-1:]])
        else:
            shift = draws.between("shift", self.shift) * draws.choice("side", (-1, 1))
            later = each(frames, lambda frame: moved(frame, shift, 0))
        frames[:, first::2] = later[:, first::2]
        return frames


@DEGRADATIONS.register("tape", aliases=("vhs",))
class Tape:
    """What a video tape leaves: little detail along the lines and less of the colours, which come
    too late, and lines that begin at different places.

    Args:
        luma_blur: standard deviation along the lines, in pixels.
        chroma_blur: that of colours.
        delay: how much further right colours lie, in pixels.
        jitter: standard deviation of where lines begin, in pixels.
    """

    def __init__(
        self,
        luma_blur: Annotated[Interval, Within(0, 20)] = (0.3, 1.5),
        chroma_blur: Annotated[Interval, Within(0, 50)] = (1.5, 5.0),
        delay: Annotated[Interval, Within(-20, 20)] = (0.5, 4.0),
        jitter: Annotated[Interval, Within(0, 20)] = (0.0, 0.4),
    ) -> None:
        self.luma_blur = luma_blur
        self.chroma_blur = chroma_blur
        self.delay = delay
        self.jitter = jitter

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        luma_blur = draws.between("luma_blur", self.luma_blur)
        chroma_blur = draws.between("chroma_blur", self.chroma_blur)
        delay = draws.between("delay", self.delay)
        jitter = draws.between("jitter", self.jitter)
        width = frames.shape[2]

        def played(frame: Frame) -> Frame:
            planes = to_luma_and_colors(frame)
            begins = draws.generator.normal(0, jitter, (len(frame), 1)).astype(np.float32)
            columns = np.arange(width, dtype=np.float32)[None] - begins
            rows = np.arange(len(frame), dtype=np.float32)[:, None].repeat(width, 1)
            planes = sampled(planes, columns, rows)
            luma = _along_lines(np.ascontiguousarray(planes[..., 0]), luma_blur)
            colors = _along_lines(np.ascontiguousarray(planes[..., 1:]), chroma_blur)
            return to_rgb(np.dstack([luma, moved(colors, delay, 0)]))

        return each(frames, played)


def _along_lines(planes: NDArray[np.floating], sigma: float) -> NDArray[np.floating]:
    """Blurred with a Gaussian along the lines alone."""
    row = cv2.getGaussianKernel(2 * math.ceil(3 * sigma) + 1, max(sigma, 1e-3))
    blurred = cv2.sepFilter2D(planes, -1, row, np.ones(1), borderType=_BORDER)
    return np.asarray(blurred, dtype=np.float32)
