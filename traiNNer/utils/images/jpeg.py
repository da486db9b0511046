"""JPEG files: a walk over their segments, and pixels whose decoder says what it stumbled over."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
from PIL import Image

from traiNNer.utils.images.basics import (
    PILLOW_ERRORS,
    Facts,
    ImageHeader,
    Pixels,
    cut_short,
    damaged,
    damaged_header,
    not_read,
    require_readable_size,
)
from traiNNer.utils.images.colors import Colors, has_ink_profile, read_exif, to_srgb

_END = 0xD9
_SCAN = 0xDA
_RESTARTS = range(0xD0, 0xD8)
# Baseline, extended and progressive, with Huffman's or arithmetic codes.
_READ_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_FRAMES = tuple(marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC))
# Those with the size, EXIF and profiles.
_READ_SEGMENTS = (*_FRAMES, 0xE1, 0xE2)
# Tables, comments and applications' segments; they can stand between scans, too.
_OTHER_SEGMENTS = (0xC4, 0xCC, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE)
_EXIF = b"Exif\0\0"
_ICC = b"ICC_PROFILE\0"
# In a scan, a zero follows a byte 255 that is no marker; 255 itself may fill up.
_MARKER = re.compile(rb"\xff([^\x00\xff])")
# What libjpeg warns of although all of the picture is there: numbers that some cameras write wrong.
_HARMLESS = ("Invalid SOS parameters", "Unknown Adobe color", "unknown JFIF revision")
# TurboJPEG knows the usual relations of the sizes of brightness and colour only.
_UNUSUAL_SAMPLING = "Could not determine subsampling"


@dataclass(slots=True)
class _Segments:
    """What stands before the first scan."""

    width: int = 0
    height: int = 0
    components: int = 0
    bits: int = 8
    exif: bytes = b""
    icc: dict[int, bytes] = field(default_factory=dict)
    scan: int = 0

    @property
    def profile(self) -> bytes:
        """The ICC profile, of all its parts."""
        return b"".join(part for _, part in sorted(self.icc.items()))


def read_facts(path: Path | str, file: BinaryIO) -> Facts:
    """The segments before the first scan, and whether the picture has an end.

    Raises:
        DataError: if they are damaged, or the end is missing.
    """
    segments = _read_segments(path, file)
    require_readable_size(path, segments.width, segments.height)
    _require_usual_sampling(path, file, segments.scan)
    _check_end(path, file, segments.scan)
    orientation, adobe_rgb = read_exif(segments.exif) if segments.exif else (1, False)
    icc = segments.profile
    colors = Colors(icc, adobe_rgb=adobe_rgb)
    converted = ""
    if segments.components == 4:
        converted = "CMYK by its profile" if has_ink_profile(icc) else "CMYK without a profile"
        colors = Colors()
    channels = 1 if segments.components == 1 else 3
    header = ImageHeader(
        segments.width, segments.height, channels, 8, orientation, converted=converted
    )
    return Facts(header, colors)


def decode(path: Path | str, data: bytes) -> Pixels:
    """(H, W, 3) RGB as it is stored.

    Raises:
        DataError: if the decoder stumbles over anything that costs pixels.
    """
    segments = _read_segments(path, io.BytesIO(data))
    # What follows the picture (a film, other pictures, anything) is none of the decoder's business.
    data = data[: _find_end(path, data, segments.scan)]
    pixels = decode_strictly(path, data)
    if segments.components == 4:
        # It was decoded for the sake of its warnings; Pillow knows the programs that write ink the
        # other way round.
        return _decode_ink(path, data, segments.profile)
    return pixels


def decode_strictly(path: Path | str, data: bytes) -> Pixels:
    """(H, W, 3) RGB of a whole JPEG and nothing else.

    Raises:
        DataError: if the decoder stumbles over anything that costs pixels.
    """
    try:
        return simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:
        words = str(error).strip()
        if not any(harmless in words for harmless in _HARMLESS):
            raise damaged(path, "JPEG", words) from error
    try:
        return simplejpeg.decode_jpeg(data, "RGB", strict=False)
    except ValueError as error:
        raise damaged(path, "JPEG", str(error).strip()) from error


def _decode_ink(path: Path | str, data: bytes, icc: bytes) -> Pixels:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return np.array(to_srgb(image, icc))
    except (OSError, *PILLOW_ERRORS) as error:
        raise damaged(path, "JPEG", error) from error


def _read_segments(path: Path | str, file: BinaryIO) -> _Segments:
    """Read on to the first scan, without what is of no interest."""
    found = _Segments()
    file.seek(2)
    while True:
        marker = _next_marker(path, file)
        if marker == _SCAN:
            found.scan = file.tell() - 2
            if not found.components:
                raise damaged_header(path, "JPEG", "no size before the picture")
            return found
        if marker == _END:
            raise damaged_header(path, "JPEG", "it ends before its picture")
        if marker in _RESTARTS or marker == 0x01:
            continue
        length = int.from_bytes(file.read(2), "big") - 2
        if length < 0:
            raise _header_cut(path, file)
        if marker in _READ_SEGMENTS:
            _note_segment(path, marker, _read_exactly(path, file, length), found)
        else:
            # A camera's preview can be large.
            file.seek(length, io.SEEK_CUR)


def _note_segment(path: Path | str, marker: int, content: bytes, found: _Segments) -> None:
    if marker in _FRAMES:
        _read_frame(path, marker, content, found)
    elif content.startswith(_EXIF):
        found.exif = found.exif or content
    elif content.startswith(_ICC) and len(content) > 14:
        # Parts are numbered from 1 on.
        found.icc[content[12]] = content[14:]


def _next_marker(path: Path | str, file: BinaryIO) -> int:
    byte = file.read(1)
    # Any number of bytes 255 may stand before a marker.
    if byte == b"\xff":
        while byte == b"\xff":
            byte = file.read(1)
        if byte and byte != b"\0":
            return byte[0]
    if not byte:
        raise _header_cut(path, file)
    raise damaged_header(path, "JPEG", f"no segment at byte {file.tell() - 1}")


def _read_exactly(path: Path | str, file: BinaryIO, length: int) -> bytes:
    content = file.read(length)
    if len(content) < length:
        raise _header_cut(path, file)
    return content


def _header_cut(path: Path | str, file: BinaryIO) -> Exception:
    return cut_short(path, "JPEG", file.seek(0, io.SEEK_END))


def _read_frame(path: Path | str, marker: int, content: bytes, found: _Segments) -> None:
    if len(content) < 6:
        raise damaged_header(path, "JPEG", "no size")
    found.bits = content[0]
    found.height = int.from_bytes(content[1:3], "big")
    found.width = int.from_bytes(content[3:5], "big")
    found.components = content[5]
    if found.bits != 8:
        raise not_read(path, f"a JPEG of {found.bits} bit")
    if marker not in _READ_FRAMES:
        raise not_read(path, "a lossless or hierarchical JPEG")
    if found.components not in (1, 3, 4):
        raise not_read(path, f"a JPEG of {found.components} components")
    if not found.width or not found.height:
        raise damaged_header(path, "JPEG", "no size")


def _require_usual_sampling(path: Path | str, file: BinaryIO, scan: int) -> None:
    file.seek(0)
    # The decoder asks for the first scan's own header, of 255 bytes at most.
    head = file.read(scan + 257)
    try:
        simplejpeg.decode_jpeg_header(head)
    except ValueError as error:
        if _UNUSUAL_SAMPLING in str(error):
            raise not_read(path, "a JPEG whose colours have an unusual resolution") from error
        # Whatever else is wrong shows when it is decoded.


def _check_end(path: Path | str, file: BinaryIO, scan: int) -> None:
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 2))
    if file.read(2) != bytes((0xFF, _END)):
        # Phones and cameras append films and more.
        file.seek(0)
        _find_end(path, file.read(), scan)


def _find_end(path: Path | str, data: bytes, scan: int) -> int:
    """Where the first picture of a file ends, by a walk from its first scan on.

    Raises:
        DataError: if it does not end, or its segments and restart markers are out of order.
    """
    position = scan
    while True:
        position = _skip_segment(path, data, position)
        marker, position = _next_in_scan(path, data, position)
        if marker == _END:
            return position + 2
        if marker != _SCAN and marker not in _OTHER_SEGMENTS:
            raise damaged(path, "JPEG", f"marker {marker:#x} at byte {position}")


def _next_in_scan(path: Path | str, data: bytes, position: int) -> tuple[int, int]:
    """The first marker from `position` on that is not a restart, and its place."""
    # A scan's data lies between, or nothing between two tables.
    for count, match in enumerate(_MARKER.finditer(data, position)):
        marker = match[1][0]
        if marker not in _RESTARTS:
            return marker, match.start()
        if marker != _RESTARTS[count % 8]:
            place = match.start()
            raise damaged(path, "JPEG", f"restart marker out of order at byte {place}")
    raise cut_short(path, "JPEG", len(data))


def _skip_segment(path: Path | str, data: bytes, position: int) -> int:
    """The place behind the segment that begins at `position`."""
    length = int.from_bytes(data[position + 2 : position + 4], "big")
    if length < 2:
        raise damaged(path, "JPEG", f"segment without a length at byte {position}")
    return position + 2 + length
