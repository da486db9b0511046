"""Colours of decoded frames: where chroma lies, and every kind of pixel."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation, VideoReformatter

from traiNNer.utils.images import Pixels
from traiNNer.video.colors import FrameToRgb, rgb_to_frame
from traiNNer.video.tags import VideoColors

FORMATS = [
    "yuv420p",
    "yuv422p",
    "yuv444p",
    "yuv411p",
    "yuv420p10le",
    "nv12",
    "p010le",
    "yuva420p",
    "yuvj420p",
    "yuyv422",
    "gbrp",
    "gbrp10le",
    "bgr0",
    "rgb24",
    "rgba",
    "rgb48le",
    "gray",
    "gray16le",
]


def ramp(height: int = 32, width: int = 48) -> Pixels:
    """Red rises by five levels a column, blue falls: chroma that is off by half a column is off by
    some levels.
    """
    columns = np.arange(width) * 5
    rgb = np.stack([columns, np.full(width, 120), 250 - columns], axis=1)
    return np.broadcast_to(rgb, (height, width, 3)).astype(np.uint8)


def furthest(a: Pixels, b: Pixels) -> int:
    """Without the four columns at each border, beyond which nothing is known."""
    return int(np.abs(a.astype(int) - b)[:, 4:-4].max())


def averaged(rgb: Pixels) -> av.VideoFrame:
    """4:2:0 with chroma as the mean of 2x2 pixels, which lies in their middle, as JPEG has it."""
    full = rgb_to_frame(rgb, "yuv444p", VideoColors(full_range=True))
    frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], "yuvj420p")
    for number, (source, target) in enumerate(zip(full.planes, frame.planes, strict=True)):
        plane = (
            np.frombuffer(bytes(source), np.uint8)
            .reshape(-1, source.line_size)[:, : source.width]
            .astype(float)
        )
        if number:
            plane = (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4
        rows = np.zeros((target.height, target.line_size), np.uint8)
        rows[:, : plane.shape[1]] = np.round(plane)
        target.update(rows)
    frame.colorspace = full.colorspace
    frame.color_range = full.color_range
    return frame


def test_chroma_is_found_where_encoders_put_it() -> None:
    rgb = ramp()
    for codec in ("h264", "hevc", "vp9", "mpeg2video"):
        assert furthest(FrameToRgb(codec)(rgb_to_frame(rgb, "yuv420p")), rgb) <= 2
    for codec in ("mjpeg", "mpeg1video"):
        assert furthest(FrameToRgb(codec)(averaged(rgb)), rgb) <= 2
    # What a wrong place would make of it, so that the tests above can fail.
    assert furthest(FrameToRgb("h264")(averaged(rgb)), rgb) > 3
    assert furthest(FrameToRgb("mjpeg")(rgb_to_frame(rgb, "yuv420p")), rgb) > 3


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_every_kind_of_pixel(pixel_format: str) -> None:
    rgb = ramp(31, 45)
    frame = VideoReformatter().reformat(
        av.VideoFrame.from_ndarray(rgb, format="rgb24"),
        format=pixel_format,
        interpolation=Interpolation.BICUBIC,
    )
    out = FrameToRgb("h264")(frame)
    assert out.shape == rgb.shape
    assert out.dtype == np.uint8
    if "gray" in pixel_format:
        assert np.ptp(out, axis=2).max() <= 1
        assert np.abs(out.mean(2) - rgb @ [0.299, 0.587, 0.114]).max() < 3
    else:
        assert furthest(out, rgb) <= 8  # FFmpeg put the chroma between the columns here


def test_a_change_within_a_video() -> None:
    convert = FrameToRgb("h264")
    first = ramp(32, 48)
    second = ramp(24, 32)
    for rgb, pixel_format, full in (
        (first, "yuv420p", False),
        (second, "yuv444p", True),
        (first, "yuv420p", True),
    ):
        assert (
            furthest(convert(rgb_to_frame(rgb, pixel_format, VideoColors(full_range=full))), rgb)
            <= 2
        )
