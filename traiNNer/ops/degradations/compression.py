"""What files of pictures lose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
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
