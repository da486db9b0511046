"""Blur: what a lens, a hand or a filter does to edges."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from traiNNer.ops.degradations.base import (
    Draws,
    Frames,
    Interval,
    WholeInterval,
    Within,
    each,
)
from traiNNer.utils.registry import DEGRADATIONS

Kernel = NDArray[np.float64]
# Sub-pixels along a side of a pixel, in which a kernel with a hard edge is drawn.
_FINER = 8


def convolve(frames: Frames, kernel: Kernel) -> Frames:
    """Every frame convolved with a kernel (k, k) of odd side, mirrored at the border."""
    # OpenCV correlates, so the kernel is turned round.
    turned = np.ascontiguousarray(kernel[::-1, ::-1])
    return each(
        frames, lambda frame: cv2.filter2D(frame, -1, turned, borderType=cv2.BORDER_REFLECT_101)
    )


def offsets(side: int) -> tuple[Kernel, Kernel]:
    """Distances (x, y) of the pixels of a kernel (side, side) from its middle."""
    places = np.arange(side, dtype=np.float64) - side // 2
    x, y = np.meshgrid(places, places)
    return x, y


def bell_kernel(
    side: int,
    sigma_x: float,
    sigma_y: float,
    angle: float = 0,
    beta: float = 1,
    *,
    plateau: bool = False,
) -> Kernel:
    """A Gaussian kernel (side, side) whose sum is 1, or one of its relatives.

    With d the distance in standard deviations, a generalised Gaussian is exp(-d^(2 beta) / 2), and
    a plateau 1 / (1 + d^(2 beta)).

    Args:
        side: odd.
        sigma_x: standard deviation along the first axis, in pixels.
        sigma_y: that along the second axis.
        angle: between the first axis and the rows, in radians.
        beta: the shape.
        plateau: the second kind.
    """
    x, y = offsets(side)
    along = (x * math.cos(angle) + y * math.sin(angle)) / sigma_x
    across = (-x * math.sin(angle) + y * math.cos(angle)) / sigma_y
    distance = (along**2 + across**2) ** beta
    kernel = 1 / (1 + distance) if plateau else np.exp(-distance / 2)
    return kernel / kernel.sum()


def sinc_kernel(side: int, cutoff: float) -> Kernel:
    """The kernel (side, side) that lets frequencies below `cutoff` pass, the same in all
    directions; its sum is 1. Highest of all is pi, half a cycle in a pixel.
    """
    x, y = offsets(side)
    distance = np.hypot(x, y)
    middle = side // 2
    distance[middle, middle] = 1
    bessel = torch.special.bessel_j1(torch.from_numpy(cutoff * distance)).numpy()
    kernel = cutoff * bessel / (2 * math.pi * distance)
    # What the quotient tends to in the middle.
    kernel[middle, middle] = cutoff**2 / (4 * math.pi)
    return kernel / kernel.sum()


def line_kernel(length: float, angle: float) -> Kernel:
    """A line of `length` pixels at `angle` (radians) from the rows; its sum is 1."""
    side = 2 * math.ceil(length / 2) + 1
    kernel = np.zeros((side, side))
    # Points of equal weight, four for each pixel, each shared among the pixels around it.
    for place in np.linspace(-length / 2, length / 2, 4 * math.ceil(length) + 1):
        x = place * math.cos(angle) + side // 2
        y = place * math.sin(angle) + side // 2
        column = min(int(x), side - 2)
        row = min(int(y), side - 2)
        right = x - column
        down = y - row
        kernel[row : row + 2, column : column + 2] += np.outer((1 - down, down), (1 - right, right))
    return kernel / kernel.sum()


def disc_kernel(radius: float) -> Kernel:
    """A disc of `radius` pixels; its sum is 1."""
    side = 2 * math.ceil(radius) + 1
    places = (np.arange(side * _FINER) + 0.5) / _FINER - side / 2
    inside = np.hypot(places[:, None], places[None, :]) <= radius
    kernel = inside.reshape(side, _FINER, side, _FINER).mean((1, 3))
    return kernel / kernel.sum()


@DEGRADATIONS.register("blur", aliases=("gaussian_blur",))
class Blur:
    """Blur with a Gaussian or one of its relatives.

    Args:
        sigma: standard deviation in pixels.
        shape: gaussian; generalized, exp(-d^(2 beta) / 2) of the distance d in standard deviations;
            plateau, 1 / (1 + d^(2 beta)).
        beta: of the last two shapes.
        isotropic: the same in all directions; else a second standard deviation and a direction are
            drawn.
        side: of the kernel in pixels, odd; null takes three standard deviations to each side.
    """

    def __init__(
        self,
        sigma: Annotated[Interval, Within(0.05, 50)] = (0.2, 3.0),
        shape: Literal["gaussian", "generalized", "plateau"] = "gaussian",
        beta: Annotated[Interval, Within(0.1, 10)] = (0.5, 4.0),
        isotropic: bool = True,
        side: Annotated[WholeInterval | None, Within(3, 101)] = None,
    ) -> None:
        self.sigma = sigma
        self.shape = shape
        self.beta = beta
        self.isotropic = isotropic
        self.side: WholeInterval | None = side

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        sigma_x = draws.between("sigma", self.sigma)
        sigma_y = sigma_x
        angle = 0.0
        if not self.isotropic:
            sigma_y = draws.between("sigma_y", self.sigma)
            angle = draws.between("angle", (-math.pi, math.pi))
        beta = 1.0
        if self.shape != "gaussian":
            beta = draws.between("beta", self.beta)
        if self.side is None:
            side = 2 * math.ceil(3 * max(sigma_x, sigma_y)) + 1
        else:
            side = draws.odd("side", self.side)
        if self.isotropic and self.shape == "gaussian":
            row = cv2.getGaussianKernel(side, sigma_x)
            return each(
                frames,
                lambda frame: cv2.sepFilter2D(
                    frame, -1, row, row, borderType=cv2.BORDER_REFLECT_101
                ),
            )
        plateau = self.shape == "plateau"
        return convolve(frames, bell_kernel(side, sigma_x, sigma_y, angle, beta, plateau=plateau))


@DEGRADATIONS.register("sinc", aliases=("sinc_blur", "ringing"))
class Sinc:
    """A low-pass with a hard edge, which leaves ripples beside every edge of the picture.

    Args:
        cutoff: highest frequency that passes, as a share of the highest there is.
        side: of the kernel in pixels, odd; the longer, the more ripples.
    """

    def __init__(
        self,
        cutoff: Annotated[Interval, Within(0.05, 1)] = (0.33, 1.0),
        side: Annotated[WholeInterval, Within(3, 101)] = (7, 21),
    ) -> None:
        self.cutoff = cutoff
        self.side: WholeInterval = side

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        cutoff = draws.between("cutoff", self.cutoff) * math.pi
        return convolve(frames, sinc_kernel(draws.odd("side", self.side), cutoff))


@DEGRADATIONS.register("motion_blur")
class MotionBlur:
    """The camera, or what it sees, moved along a straight line.

    Args:
        length: of the line in pixels.
        angle: between the line and the rows in degrees.
    """

    def __init__(
        self,
        length: Annotated[Interval, Within(0.5, 100)] = (2.0, 12.0),
        angle: Annotated[Interval, Within(-180, 180)] = (0.0, 180.0),
    ) -> None:
        self.length = length
        self.angle = angle

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        length = draws.between("length", self.length)
        angle = draws.between("angle", self.angle)
        return convolve(frames, line_kernel(length, math.radians(angle)))


@DEGRADATIONS.register("lens_blur", aliases=("defocus",))
class LensBlur:
    """Out of focus: every point becomes a disc.

    Args:
        radius: of the disc in pixels.
    """

    def __init__(self, radius: Annotated[Interval, Within(0.3, 50)] = (0.7, 4.0)) -> None:
        self.radius = radius

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        return convolve(frames, disc_kernel(draws.between("radius", self.radius)))


@DEGRADATIONS.register("sharpen", aliases=("oversharpen", "unsharp_mask"))
class Sharpen:
    """Unsharp masking, too much of which leaves halos.

    Args:
        amount: how much of what a blur takes away is added; 1 doubles it.
        sigma: standard deviation of that blur in pixels.
        threshold: differences below it stay as they are, in levels of 255.
    """

    def __init__(
        self,
        amount: Annotated[Interval, Within(0, 20)] = (0.5, 2.5),
        sigma: Annotated[Interval, Within(0.05, 50)] = (0.5, 3.0),
        threshold: Annotated[float, Within(0, 255)] = 0.0,
    ) -> None:
        self.amount = amount
        self.sigma = sigma
        self.threshold = threshold

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        amount = draws.between("amount", self.amount)
        sigma = draws.between("sigma", self.sigma)
        border = cv2.BORDER_REFLECT_101
        blurred = each(
            frames, lambda frame: cv2.GaussianBlur(frame, (0, 0), sigma, borderType=border)
        )
        taken_away = frames - blurred
        taken_away[np.abs(taken_away) < self.threshold / 255] = 0
        return frames + np.float32(amount) * taken_away
