"""Colours of video: 8-bit RGB to Y'CbCr for an encoder, and any decoded frame to 8-bit RGB.

Training, testing and the scripts that make data decode in one way, so that a network is trained on
what it will see. PyAV is imported when it is needed, because only video needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from traiNNer.utils.errors import DataError
from traiNNer.video.pyav import import_av
from traiNNer.video.tags import (
    FULL,
    LIMITED,
    LUMA_SHARES,
    VideoColors,
    assumed_matrix,
    has_rgb,
    is_grey,
    is_untagged,
    refusal,
)

if TYPE_CHECKING:
    from av import VideoFrame
    from av.filter import Graph

# (H, W, 3), RGB, 0 to 255.
Frame = NDArray[np.uint8]

HD = VideoColors()
# Keeps what lies below half of the chroma's bandwidth and is centred on a pixel: chroma of 4:2:0
# lies on even columns (H.264, annex E: chroma location 0, the default) and between two rows.
_HALF_BAND = np.array([-1, 0, 9, 16, 9, 0, -1], np.float32) / 32
_BETWEEN_ROWS = np.array([0.5, 0.5], np.float32)
# FFmpeg takes grey for full range, whatever it is tagged with.
_STRETCHED = np.clip(np.round((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)
_CENTRED_CHROMA = ("mjpeg", "mpeg1video")
# By default FFmpeg repeats colour samples instead of interpolating them. That takes 1 ms for a
# frame of 1920x1080, and this 9 ms; decoding it takes 2 ms and more.
_INTERPOLATED = "bilinear+accurate_rnd+full_chroma_int"


def color_range(full: bool) -> int:
    """FFmpeg's number of Y' from 0 to 255 (full) or 16 to 235."""
    return FULL if full else LIMITED


class FrameToRgb:
    """Decoded frames of one video to RGB.

    It heeds the matrix and the range (limited, full) that a frame is tagged with. Where it names no
    matrix, that of its size is taken as players do: BT.709 from 720 lines or 1280 columns on, else
    BT.601. Primaries and curve are not converted. Chroma at half the width is taken to lie on the
    even columns, as H.264, H.265, MPEG-2, VP9 and AV1 have it by default, and for MJPEG and MPEG-1
    between two; at half the height between two rows. FFmpeg itself takes it to lie between the
    columns in all of them, half a pixel of the picture off.

    Args:
        codec: FFmpeg's name of the video's decoder.
        untagged: matrix of frames that name none; None for that of their size.
    """

    def __init__(self, codec: str, untagged: int | None = None) -> None:
        self._centred = codec in _CENTRED_CHROMA
        self._untagged = untagged
        self._graph: Graph | None = None
        self._kind: tuple[int, int, str, int, int, int] | None = None

    def __call__(self, frame: VideoFrame) -> Frame:
        """(H, W, 3), as coded: without the rotation that a player applies.

        Raises:
            DataError: for high dynamic range and other colours that cannot be converted.
        """
        if not has_rgb(frame) and is_untagged(int(frame.colorspace)):
            frame.colorspace = self._untagged or assumed_matrix(frame.width, frame.height)
        kind = (
            frame.width,
            frame.height,
            frame.format.name,
            int(frame.colorspace),
            int(frame.color_range),
            int(frame.color_trc),
        )
        # Built once for all frames that are alike; a broadcast may change its tags in between.
        if self._graph is None or kind != self._kind:
            reason = refusal(frame)
            if reason is not None:
                raise DataError(reason)
            self._graph = self._build(*kind[:5])
            self._kind = kind
        self._graph.vpush(frame)
        rgb = cast("Frame", self._graph.vpull().to_ndarray())
        if is_grey(frame) and int(frame.color_range) == LIMITED:
            return cast("Frame", cv2.LUT(rgb, _STRETCHED))
        return rgb

    def _build(self, width: int, height: int, pixel_format: str, matrix: int, levels: int) -> Graph:
        from av.filter import Graph

        graph = Graph()
        graph.threads = 1  # in a forked process, what has threads could not even be freed
        source = (
            f"video_size={width}x{height}:pix_fmt={pixel_format}:colorspace={matrix}"
            f":range={levels}:time_base=1/1"
        )
        chroma = -513 if self._centred else 0  # in 1/256 of a column; -513 is FFmpeg's way
        graph.link_nodes(
            graph.add("buffer", source),
            graph.add("scale", f"in_h_chr_pos={chroma}:flags={_INTERPOLATED}"),
            graph.add("format", "pix_fmts=rgb24"),
            graph.add("buffersink"),
        ).configure()
        return graph


def rgb_to_frame(rgb: Frame, pixel_format: str, colors: VideoColors = HD) -> VideoFrame:
    """Y'CbCr, with chroma where H.264 and H.265 expect it, and tagged.

    Args:
        rgb: with even sides for yuv420p.
        pixel_format: yuv420p or yuv444p.
        colors: matrix and range; primaries and curve are said and change nothing.
    """
    planes = cv2.split(cv2.transform(rgb, _ycc_matrix(colors)))
    if pixel_format == "yuv420p":
        halves = [
            # The anchors: on the column itself, and from a row to the one below it.
            cv2.sepFilter2D(chroma, -1, _HALF_BAND, _BETWEEN_ROWS, anchor=(3, 0))[::2, ::2]
            for chroma in planes[1:]
        ]
        planes = [planes[0], *halves]
    frame = import_av().VideoFrame(rgb.shape[1], rgb.shape[0], pixel_format)
    for target, plane in zip(frame.planes, planes, strict=True):
        # FFmpeg's rows are longer than the picture, for aligned loads.
        rows = np.zeros((target.height, target.line_size), np.uint8)
        rows[:, : plane.shape[1]] = plane
        target.update(rows)
    frame.colorspace = colors.matrix
    frame.color_range = color_range(colors.full_range)
    frame.color_primaries = colors.primaries
    frame.color_trc = colors.transfer
    return frame


def _ycc_matrix(colors: VideoColors) -> NDArray[np.float64]:
    """(3, 4): R, G, B, 1 to Y', Cb, Cr, all from 0 to 255 (ISO/IEC 23091-2, clause 8.3)."""
    red, blue = LUMA_SHARES[colors.matrix]
    luma = np.array([red, 1 - red - blue, blue])
    chroma_blue = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
    chroma_red = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
    spans = (255, 255, 255) if colors.full_range else (219, 224, 224)
    offsets = (0 if colors.full_range else 16, 128, 128)
    rows = np.stack([luma, chroma_blue, chroma_red]) * np.array(spans)[:, None] / 255
    return np.column_stack([rows, offsets])
