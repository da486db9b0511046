"""WebP and BMP files, whose headers Pillow reads and whose pixels OpenCV decodes."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO, Literal

from PIL import Image, UnidentifiedImageError

from traiNNer.utils.images.basics import (
    PILLOW_ERRORS,
    Facts,
    ImageHeader,
    Pixels,
    cut_short,
    damaged_header,
    decode_by_opencv,
    require_readable_size,
)
from traiNNer.utils.images.colors import Colors, read_exif

_CHANNELS = {"1": 1, "L": 1, "RGBA": 4}
_BMP_OF_PROFILES = 124
_BMP_EMBEDDED = b"DEBM"


def read_facts(path: Path | str, kind: Literal["WebP", "BMP"], file: BinaryIO) -> Facts:
    """The header.

    Raises:
        DataError: if it is damaged, or the file is shorter than it says.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(142)
    if kind == "WebP" and struct.unpack("<I", head[4:8])[0] + 8 > size:
        raise cut_short(path, kind, size)
    file.seek(0)
    try:
        with Image.open(file) as image:
            width, height = image.size
            channels = _CHANNELS.get(image.mode, 3)
            bits = 1 if image.mode == "1" else 8
            exif = image.info.get("exif", b"") if kind == "WebP" else b""
            icc = image.info.get("icc_profile", b"") or b""
    except (UnidentifiedImageError, OSError, *PILLOW_ERRORS) as error:
        raise damaged_header(path, kind, error) from error
    if kind == "BMP":
        icc = _bmp_profile(head, file)
    require_readable_size(path, width, height)
    orientation, adobe_rgb = read_exif(exif) if exif else (1, False)
    header = ImageHeader(width, height, channels, bits, orientation)
    return Facts(header, Colors(icc, adobe_rgb=adobe_rgb))


def decode(
    path: Path | str, kind: Literal["WebP", "BMP"], data: bytes, facts: Facts, *, with_alpha: bool
) -> tuple[Pixels, Pixels | None]:
    """(H, W, 3) RGB as it is stored, and (H, W) alpha if it is asked for.

    Raises:
        DataError: if the file is damaged.
    """
    with_alpha = with_alpha and facts.header.channels == 4
    return decode_by_opencv(path, kind, data, with_alpha=with_alpha)


def _bmp_profile(head: bytes, file: BinaryIO) -> bytes:
    """The ICC profile that the fifth version of the header can name."""
    if len(head) < 14 + _BMP_OF_PROFILES or head[14:18] != struct.pack("<I", _BMP_OF_PROFILES):
        return b""
    if head[70:74] != _BMP_EMBEDDED:
        return b""
    offset, length = struct.unpack("<II", head[126:134])
    file.seek(14 + offset)
    return file.read(length)
