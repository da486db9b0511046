"""What files of pictures lose."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, features
from pydantic import Field

from traiNNer.ops.degradations.base import (
    Draws,
    Frame,
    Frames,
    Share,
    WholeInterval,
    Within,
    each,
    from_levels,
    to_levels,
)
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import DEGRADATIONS

Levels = NDArray[np.uint8]
Subsampling = Literal["420", "422", "444"]
_SAMPLING = {
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}
# Side in pixels of the squares in which a format looks at a picture, twice that for colours that
# are halved: a grid may begin anywhere within it.
_GRID = 16


def through_file(frames: Frames, suffix: str, parameters: list[int]) -> Frames:
    """Every frame written and read again by OpenCV, in memory."""

    def written(frame: Frame) -> Frame:
        levels = cv2.cvtColor(to_levels(frame), cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(suffix, levels, parameters)
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
        if decoded is None:
            raise RuntimeError(f"OpenCV could not write and read a picture as {suffix}")
        rgb = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        return from_levels(np.asarray(rgb, dtype=np.uint8))

    return each(frames, written)


def on_shifted_grid(
    frames: Frames, draws: Draws, share: float, compress: Callable[[Frames], Frames]
) -> Frames:
    """Compress with squares that do not begin at the corner, in a share of the samples: a picture
    that was cropped since.
    """
    down = 0
    right = 0
    if draws.chance("shifted", share):
        down = draws.whole("down", (0, _GRID - 1))
        right = draws.whole("right", (0, _GRID - 1))
    before = ((0, 0), (down, 0), (right, 0), (0, 0))
    return compress(np.pad(frames, before, mode="edge"))[:, down:, right:]


@DEGRADATIONS.register("jpeg")
class Jpeg:
    """Compression as JPEG, by libjpeg.

    Args:
        quality: 1 to 100, as libjpeg counts it.
        subsampling: of colours, of which one is drawn; 420 halves them in both directions, 422 in
            the rows, 444 in neither.
        shifted: share of the samples whose squares do not begin at the picture's corner.
    """

    def __init__(
        self,
        quality: Annotated[WholeInterval, Within(1, 100)] = (30, 95),
        subsampling: Annotated[list[Subsampling], Field(min_length=1)] = ["420"],  # noqa: B006
        shifted: Share = 0.0,
    ) -> None:
        self.quality: WholeInterval = quality
        self.subsampling = subsampling
        self.shifted = shifted

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        quality = draws.whole("quality", self.quality)
        sampling = draws.choice("subsampling", self.subsampling)
        parameters = [
            cv2.IMWRITE_JPEG_QUALITY,
            quality,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            _SAMPLING[sampling],
        ]
        return on_shifted_grid(
            frames, draws, self.shifted, lambda padded: through_file(padded, ".jpg", parameters)
        )


@DEGRADATIONS.register("webp")
class Webp:
    """Compression as WebP, lossy.

    Args:
        quality: 1 to 100, as libwebp counts it.
        shifted: share of the samples whose squares do not begin at the picture's corner.
    """

    def __init__(
        self,
        quality: Annotated[WholeInterval, Within(1, 100)] = (30, 95),
        shifted: Share = 0.0,
    ) -> None:
        self.quality: WholeInterval = quality
        self.shifted = shifted

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        parameters = [cv2.IMWRITE_WEBP_QUALITY, draws.whole("quality", self.quality)]
        return on_shifted_grid(
            frames, draws, self.shifted, lambda padded: through_file(padded, ".webp", parameters)
        )


@DEGRADATIONS.register("avif")
class Avif:
    """Compression as AVIF, by Pillow's libavif.

    Args:
        quality: 0 to 100, as libavif counts it.
        subsampling: of colours, of which one is drawn.
        speed: 0 to 10; what is faster looks worse.
    """

    def __init__(
        self,
        quality: Annotated[WholeInterval, Within(0, 100)] = (30, 90),
        subsampling: Annotated[list[Subsampling], Field(min_length=1)] = ["420"],  # noqa: B006
        speed: Annotated[int, Within(0, 10)] = 8,
    ) -> None:
        if not features.check("avif"):
            raise OptionsError(
                "the degradation avif needs a Pillow that has libavif, as its wheels from 11.3 on "
                "have: pip install -U pillow"
            )
        self.quality: WholeInterval = quality
        self.subsampling = subsampling
        self.speed = speed

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        quality = draws.whole("quality", self.quality)
        sampling = ":".join(draws.choice("subsampling", self.subsampling))

        def written(frame: Frame) -> Frame:
            buffer = io.BytesIO()
            picture = Image.fromarray(to_levels(frame))
            # More threads make other tiles, and so other pixels.
            picture.save(
                buffer,
                "AVIF",
                quality=quality,
                subsampling=sampling,
                speed=self.speed,
                max_threads=1,
            )
            return from_levels(np.asarray(Image.open(buffer).convert("RGB")))

        return each(frames, written)


@DEGRADATIONS.register("palette", aliases=("gif",))
class Palette:
    """A few colours, chosen from the picture, as in GIF files.

    Args:
        colors: how many.
        dithered: share of the samples whose errors are spread (Floyd and Steinberg), in place of
            flat areas.
    """

    def __init__(
        self,
        colors: Annotated[WholeInterval, Within(2, 256)] = (16, 256),
        dithered: Share = 0.5,
    ) -> None:
        self.colors: WholeInterval = colors
        self.dithered = dithered

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        colors = draws.whole("colors", self.colors)
        dithered = draws.chance("dithered", self.dithered)
        dither = Image.Dither.FLOYDSTEINBERG if dithered else Image.Dither.NONE

        def reduced(frame: Frame) -> Frame:
            picture = Image.fromarray(to_levels(frame))
            palette = picture.quantize(colors, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            indexed = picture.quantize(palette=palette, dither=dither)
            return from_levels(np.asarray(indexed.convert("RGB")))

        return each(frames, reduced)


@DEGRADATIONS.register("quantize", aliases=("banding",))
class Quantize:
    """Fewer levels in each channel: bands where the picture changes slowly, or a pattern of dots.

    Args:
        levels: how many.
        dithered: share of the samples with ordered dithering, over squares of 8 pixels.
    """

    def __init__(
        self,
        levels: Annotated[WholeInterval, Within(2, 256)] = (12, 64),
        dithered: Share = 0.3,
    ) -> None:
        self.levels: WholeInterval = levels
        self.dithered = dithered

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        steps = draws.whole("levels", self.levels) - 1
        threshold = np.full((1, 1), 0.5)
        if draws.chance("dithered", self.dithered):
            height, width = frames.shape[1:3]
            threshold = np.tile(_bayer(), (height // 8 + 1, width // 8 + 1))[:height, :width]
        raised = frames * steps + threshold[None, ..., None].astype(np.float32)
        return np.minimum(np.floor(raised), steps) / np.float32(steps)


def _bayer() -> NDArray[np.float64]:
    """Bayer's thresholds (8, 8), in (0, 1): each halves the gaps that those before have left."""
    order = np.zeros((1, 1))
    for _ in range(3):
        quarters = [[4 * order, 4 * order + 2], [4 * order + 3, 4 * order + 1]]
        order = np.block(quarters)
    return (order + 0.5) / order.size
