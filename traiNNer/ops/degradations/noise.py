"""Noise: what sensors, films and wires add."""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np

from traiNNer.ops.degradations.base import Draws, Frames, Interval, Share, Within
from traiNNer.utils.registry import DEGRADATIONS

# Weights of R, G and B in luma (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# A count of so many is as good as normal, and drawn three times as fast.
_MANY = 20
# What screens raise a level to, nearly: sensors count light, and files hold its root.
_GAMMA = 2.2


def white(frames: Frames, draws: Draws, *, grey: bool) -> Frames:
    """White noise of standard deviation 1 for these frames; with `grey` the same in R, G and B."""
    shape = (*frames.shape[:3], 1 if grey else 3)
    return draws.generator.standard_normal(shape, dtype=np.float32)


@DEGRADATIONS.register("gaussian_noise")
class GaussianNoise:
    """White noise, the same everywhere.

    Args:
        sigma: standard deviation in levels of 255.
        grey: share of the samples whose noise is the same in R, G and B.
    """

    def __init__(
        self, sigma: Annotated[Interval, Within(0, 255)] = (1.0, 30.0), grey: Share = 0.4
    ) -> None:
        self.sigma = sigma
        self.grey = grey

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        sigma = draws.between("sigma", self.sigma)
        grey = draws.chance("grey", self.grey)
        return frames + white(frames, draws, grey=grey) * (sigma / 255)


@DEGRADATIONS.register("poisson_noise", aliases=("shot_noise",))
class PoissonNoise:
    """Noise that grows with the light: a level v of 255 gets what a count of v has, times `scale`,
    whose standard deviation is scale * sqrt(v).

    Args:
        scale: see above.
        grey: share of the samples whose noise is that of luma, the same in R, G and B.
    """

    def __init__(
        self, scale: Annotated[Interval, Within(0, 20)] = (0.05, 3.0), grey: Share = 0.4
    ) -> None:
        self.scale = scale
        self.grey = grey

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        scale = draws.between("scale", self.scale)
        grey = draws.chance("grey", self.grey)
        light = (frames @ LUMA)[..., None] if grey else frames
        levels = np.clip(light, 0, 1) * 255
        difference = np.sqrt(levels) * draws.generator.standard_normal(
            levels.shape, dtype=np.float32
        )
        few = levels < _MANY
        difference[few] = draws.generator.poisson(levels[few]) - levels[few]
        return frames + difference * (scale / 255)


@DEGRADATIONS.register("sensor_noise")
class SensorNoise:
    """A camera's noise, in linear light: `shot` grows with the light, `read` is there in the dark.
    The variance is shot * light + read^2.

    Args:
        shot: variance at full light, of a light of 1.
        read: standard deviation in the dark, of a light of 1.
    """

    def __init__(
        self,
        shot: Annotated[Interval, Within(0, 1)] = (0.0001, 0.01),
        read: Annotated[Interval, Within(0, 1)] = (0.0005, 0.02),
    ) -> None:
        self.shot = shot
        self.read = read

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        shot = draws.between("shot", self.shot)
        read = draws.between("read", self.read)
        light = np.clip(frames, 0, 1) ** np.float32(_GAMMA)
        deviation = np.sqrt(np.float32(shot) * light + np.float32(read**2))
        light += deviation * white(frames, draws, grey=False)
        return np.clip(light, 0, None) ** np.float32(1 / _GAMMA)


@DEGRADATIONS.register("film_grain", aliases=("grain",))
class FilmGrain:
    """Grains of a film: soft, strongest in the middle tones, and the same in R, G and B.

    Args:
        strength: standard deviation in the middle tones, in levels of 255.
        size: standard deviation of a grain in pixels.
    """

    def __init__(
        self,
        strength: Annotated[Interval, Within(0, 255)] = (2.0, 20.0),
        size: Annotated[Interval, Within(0.2, 10)] = (0.4, 1.5),
    ) -> None:
        self.strength = strength
        self.size = size

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        strength = draws.between("strength", self.strength)
        size = draws.between("size", self.size)
        noise = white(frames, draws, grey=True)
        row = cv2.getGaussianKernel(2 * int(np.ceil(3 * size)) + 1, size, cv2.CV_32F)
        grain = np.stack([cv2.sepFilter2D(plane, -1, row, row) for plane in noise[..., 0]])
        # A blur leaves of white noise as much as the kernel's squares add up to.
        grain /= np.float32((row**2).sum())
        luma = np.clip(frames @ LUMA, 0, 1)
        tones = 2 * np.sqrt(luma * (1 - luma))
        return frames + (tones * grain)[..., None] * (strength / 255)


@DEGRADATIONS.register("salt_and_pepper", aliases=("salt", "impulse_noise"))
class SaltAndPepper:
    """Pixels that are white or black, as of dust and lost bits.

    Args:
        share: of all pixels.
        salt: share of the white ones among them.
    """

    def __init__(
        self, share: Annotated[Interval, Within(0, 1)] = (0.0005, 0.02), salt: Share = 0.5
    ) -> None:
        self.share = share
        self.salt = salt

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        share = draws.between("share", self.share)
        drawn = draws.generator.random(frames.shape[:3], dtype=np.float32)
        frames[drawn < share] = 0
        frames[drawn < share * self.salt] = 1
        return frames
