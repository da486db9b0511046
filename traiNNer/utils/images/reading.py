"""Reading a file of any format: the header alone, or the picture, always upright."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np

from traiNNer.utils.errors import DataError
from traiNNer.utils.images import jpeg, png, tiff, webp_bmp
from traiNNer.utils.images.basics import (
    Facts,
    Format,
    ImageHeader,
    Picture,
    Pixels,
    damaged,
    identify,
    require_regular,
)
from traiNNer.utils.images.colors import Colors, turn_upright


def read_header(path: Path | str) -> ImageHeader:
    """Read the header and check cheaply that the file is a whole image, without decoding it.

    Raises:
        DataError: if the file cannot be read, is empty, is no image, is cut short or of a kind that
            is not read.
    """
    return _facts_of_file(path).upright()


def read_colors(path: Path | str) -> Colors:
    """What a file says that its numbers mean, without decoding it.

    Raises:
        DataError: as `read_header`.
    """
    return _facts_of_file(path).colors


def read_image(path: Path) -> Pixels:
    """Decode a picture to RGB, see `read_picture`; alpha is dropped."""
    return _read(path, with_alpha=False).rgb


def read_top(path: Path, rows: int) -> Pixels:
    """The first rows of a picture in RGB, or all of it where that is no more work; see
    `read_picture`.

    Raises:
        DataError: as `read_picture`.
    """
    return _read(path, with_alpha=False, rows=rows).rgb


def read_picture(path: Path) -> Picture:
    """Decode a picture.

    Grey is repeated to three channels, palettes and CMYK are converted, EXIF's orientation is
    applied. Everything else that the file says about its colours is in `colors`.

    Raises:
        DataError: if the file cannot be read, is no image, is damaged, has samples of more than 16
            bit or is of another kind that is not read.
    """
    return _read(path, with_alpha=True)


def _read(path: Path, *, with_alpha: bool, rows: int | None = None) -> Picture:
    try:
        require_regular(path)
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    kind = identify(path, data[:33])
    facts = _facts(path, kind, io.BytesIO(data))
    header = facts.header
    if header.orientation != 1:
        # What is at the top is elsewhere in the file.
        rows = None
    rgb, alpha = _decode(path, kind, data, facts, with_alpha=with_alpha, rows=rows)
    if rgb.shape not in ((rows, header.width, 3), (header.height, header.width, 3)):
        raise damaged(path, kind, f"its pixels are {rgb.shape[1]}x{rgb.shape[0]}")
    rgb = turn_upright(rgb, header.orientation)
    if not with_alpha or header.channels not in (2, 4):
        return Picture(rgb, None, facts.colors)
    if alpha is None:
        # The decoder found no use for what the header announces.
        alpha = np.full(rgb.shape[:2], np.iinfo(rgb.dtype).max, rgb.dtype)
    else:
        alpha = turn_upright(alpha, header.orientation)
    return Picture(rgb, alpha, facts.colors)


def _decode(
    path: Path, kind: Format, data: bytes, facts: Facts, *, with_alpha: bool, rows: int | None
) -> tuple[Pixels, Pixels | None]:
    """RGB and alpha as they are stored, of the first rows at least."""
    if kind == "PNG":
        return png.decode(path, data, facts, with_alpha=with_alpha, rows=rows)
    if kind == "JPEG":
        return jpeg.decode(path, data), None
    if kind == "TIFF":
        return tiff.decode(path, data)
    return webp_bmp.decode(path, kind, data, facts, with_alpha=with_alpha)


def _facts_of_file(path: Path | str) -> Facts:
    try:
        require_regular(path)
        with open(path, "rb") as file:
            head = file.read(33)
            return _facts(path, identify(path, head), file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _facts(path: Path | str, kind: Format, file: BinaryIO) -> Facts:
    if kind == "PNG":
        return png.read_facts(path, file)
    if kind == "JPEG":
        return jpeg.read_facts(path, file)
    if kind == "TIFF":
        return tiff.read_facts(path, file)
    return webp_bmp.read_facts(path, kind, file)
