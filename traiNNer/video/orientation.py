"""How a decoded picture has to be turned to be shown."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from traiNNer.utils.errors import DataError

if TYPE_CHECKING:
    from av import VideoFrame

# Nine numbers of 32 bit; the first two of each of the first two rows turn and mirror.
_MATRIX = struct.Struct("=9i")
# FFmpeg cuts angles off to whole degrees.
_ROUNDING = 1


def orientation_of(frame: VideoFrame) -> tuple[int, bool]:
    """Degrees to turn it counterclockwise (0, 90, 180 or 270), and whether its rows are to be
    reversed before that.

    Raises:
        DataError: for any other angle.
    """
    rotation = round(frame.rotation / 90) * 90
    if abs(frame.rotation - rotation) > _ROUNDING:
        raise DataError(
            f"the picture is rotated by {frame.rotation} degrees; encode it anew without rotation"
        )
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return rotation % 360, False
    a, b, _, c, d, *_ = _MATRIX.unpack(bytes(data)[: _MATRIX.size])
    # What mirrors has a negative determinant; its angle is that of the first row.
    return rotation % 360, a * d - b * c < 0
