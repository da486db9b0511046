"""What a video says about its colours: what it means, what cannot be read, what is worth a word.

Numbers are those of ISO/IEC 23091-2, which FFmpeg and every codec have in common.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream

# The number of the matrix, the primaries and the transfer curve of BT.709 alike.
BT709 = 1
UNSPECIFIED = 2
# BT.470 BG, the BT.601 of 625 lines: matrix and primaries.
PAL = 5
# SMPTE 170M, the BT.601 of 525 lines: matrix, primaries, and the transfer curve of BT.709.
NTSC = 6
BT2020 = 9
# FFmpeg's numbers of the ranges.
LIMITED = 1
FULL = 2
# What frames are read with.
EIGHT_BITS = 8

# From here on players take untagged video for BT.709, below for BT.601.
_HD_LINES = 720
_HD_COLUMNS = 1280
# The lines of digital PAL.
_PAL_LINES = 576
# Shares of red and blue in the luma; green has the rest. ISO/IEC 23091-2, table 4.
LUMA_SHARES = {
    BT709: (0.2126, 0.0722),
    4: (0.30, 0.11),
    PAL: (0.299, 0.114),
    NTSC: (0.299, 0.114),
    7: (0.212, 0.087),
    BT2020: (0.2627, 0.0593),
}
_NO_MATRIX = (0, UNSPECIFIED, 3)  # RGB, unspecified, reserved
_MATRIX_NAMES = {
    BT709: "BT.709",
    4: "FCC",
    PAL: "BT.601",
    NTSC: "BT.601",
    7: "SMPTE 240M",
    8: "YCgCo",
    BT2020: "BT.2020",
    10: "BT.2020 with constant luminance",
    11: "SMPTE ST 2085",
    12: "chromaticity-derived",
    13: "chromaticity-derived with constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
_WIDE_PRIMARIES = {BT2020: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
_HDR_CURVES = {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}
_HDR_SIDE_DATA = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "DYNAMIC_HDR_PLUS")
_DOLBY_VISION = ("DOVI_METADATA", "DOVI_RPU_BUFFER")
_TONE_MAP = (
    "its levels are not those of a screen of standard range; convert it to BT.709 first, for "
    "example with FFmpeg's filters zscale and tonemap"
)


@dataclass(frozen=True, slots=True)
class VideoColors:
    """How RGB is to be coded, and what is said about it. The default is that of HD video.

    Attributes:
        matrix: of Y'CbCr, one of `LUMA_SHARES`.
        full_range: Y' from 0 to 255 instead of 16 to 235. Few players respect it.
        primaries: of the RGB, which no conversion changes; 2 where it is not said.
        transfer: curve of the RGB, which no conversion changes; 2 where it is not said.
    """

    matrix: int = BT709
    full_range: bool = False
    primaries: int = BT709
    transfer: int = BT709


def matrix_name(matrix: int) -> str:
    """For example BT.709."""
    return _MATRIX_NAMES.get(matrix, f"number {matrix}")


def is_untagged(matrix: int) -> bool:
    """Whether the number of a matrix says nothing about Y'CbCr."""
    return matrix in _NO_MATRIX


def assumed_matrix(width: int, height: int) -> int:
    """What untagged video of this size is for every player: BT.709 where it is HD, else BT.601."""
    if height >= _HD_LINES or width >= _HD_COLUMNS:
        return BT709
    return PAL if height == _PAL_LINES else NTSC


def colors_of(frame: VideoFrame) -> VideoColors:
    """The colours of a frame: as it is tagged, else as players take it.

    Primaries and curve of a frame that names its matrix stay unsaid where it does not say them.
    """
    primaries = int(frame.color_primaries)
    transfer = int(frame.color_trc)
    tag = int(frame.colorspace)
    if has_rgb(frame):
        # There is no matrix to carry on: that of HD, which all players know.
        matrix = BT709
        full_range = False
    else:
        matrix = tag
        full_range = int(frame.color_range) == FULL or frame.format.name.startswith("yuvj")
    if has_rgb(frame) or is_untagged(tag):
        if not has_rgb(frame):
            matrix = assumed_matrix(frame.width, frame.height)
        primaries = matrix if primaries == UNSPECIFIED else primaries
        curve = BT709 if matrix == BT709 else NTSC
        transfer = curve if transfer == UNSPECIFIED else transfer
    return VideoColors(matrix, full_range, primaries, transfer)


def has_rgb(frame: VideoFrame) -> bool:
    """Whether its pixels are RGB, of a palette too."""
    return frame.format.is_rgb or frame.format.has_palette


def is_grey(frame: VideoFrame) -> bool:
    """Whether its pixels have no colours, and so no matrix."""
    colors = [part for part in frame.format.components if not part.is_alpha]
    return not has_rgb(frame) and len(colors) == 1


def bits_of(frame: VideoFrame) -> int:
    """Of the deepest component."""
    return max(component.bits for component in frame.format.components)


def refusal(frame: VideoFrame, stream_transfer: int = UNSPECIFIED) -> str | None:
    """Why the colours of a frame cannot be read, and what to do; None where they can.

    Args:
        frame: decoded.
        stream_transfer: the curve that the container names, where it may know more.
    """
    transfer = int(frame.color_trc)
    for curve in (transfer, stream_transfer):
        if curve in _HDR_CURVES:
            return f"high dynamic range, {_HDR_CURVES[curve]}, is not read: {_TONE_MAP}"
    matrix = int(frame.colorspace)
    if not has_rgb(frame) and not is_untagged(matrix) and matrix not in LUMA_SHARES:
        return (
            f"colours coded as {matrix_name(matrix)} are not read; encode it anew with the matrix "
            "of BT.709"
        )
    return _hidden_range(frame) if transfer == UNSPECIFIED else None


def _hidden_range(frame: VideoFrame) -> str | None:
    """What tells of high dynamic range although no curve is named."""
    if any(kind in frame.side_data for kind in _DOLBY_VISION):
        return f"Dolby Vision without a picture of standard range is not read: {_TONE_MAP}"
    if any(kind in frame.side_data for kind in _HDR_SIDE_DATA):
        return f"high dynamic range (it names a mastering display) is not read: {_TONE_MAP}"
    if wide_name(frame) and bits_of(frame) > EIGHT_BITS:
        return (
            f"{wide_name(frame)} with {bits_of(frame)} bit and no word about its curve is not "
            "read, because it is high dynamic range more often than not; tag its curve (bt709, "
            "bt2020-10), or convert it to BT.709"
        )
    return None


def wide_name(frame: VideoFrame) -> str:
    """The name of primaries that are wider than BT.709's by far; empty for others."""
    if int(frame.colorspace) == BT2020:
        return "BT.2020"
    return _WIDE_PRIMARIES.get(int(frame.color_primaries), "")


def remarks(frame: VideoFrame, stream: VideoStream) -> Iterator[str]:
    """What a user should know of how a video is read, each for a list of files."""
    wide = wide_name(frame)
    if wide:
        yield (
            f"in the colours of {wide}, which are kept and not converted to BT.709: as images, or "
            "beside other videos, they look pale"
        )
    has_matrix = not (has_rgb(frame) or is_grey(frame))
    if has_matrix and is_untagged(int(frame.colorspace)):
        matrix = matrix_name(assumed_matrix(frame.width, frame.height))
        yield f"without a word about the colour matrix, taken as {matrix} as players do"
    if bits_of(frame) > EIGHT_BITS:
        yield "with more than 8 bit, read with 8"
    if _has_alpha(frame, stream):
        yield "with alpha, which is dropped"
    if _is_interlaced(frame, stream):
        yield "interlaced, whose fields stay woven: deinterlace first for a clean picture"
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1:
        yield "with pixels that are not square: frames are taken as they are stored"


def _has_alpha(frame: VideoFrame, stream: VideoStream) -> bool:
    # VP8 and VP9 keep alpha beside the picture, where their decoders do not look.
    if stream.metadata.get("alpha_mode", "0") not in ("", "0"):
        return True
    return any(component.is_alpha for component in frame.format.components)


def _is_interlaced(frame: VideoFrame, stream: VideoStream) -> bool:
    # 0 is unknown and 1 progressive; all others are orders of fields.
    return frame.interlaced_frame or stream.codec_context.field_order > 1
