"""What the readers of all formats share: the header, the limits, the words for what is wrong."""

from __future__ import annotations

import re
import stat
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from traiNNer.utils.errors import DataError
from traiNNer.utils.images.colors import SIDEWAYS, Colors

Pixels: TypeAlias = NDArray[np.uint8 | np.uint16]
Format = Literal["PNG", "JPEG", "WebP", "TIFF", "BMP"]

# What Pillow's readers trip over in damaged files; SyntaxError is its own word for a wrong format.
PILLOW_ERRORS = (SyntaxError, ValueError, KeyError, TypeError, IndexError, struct.error)
COPY_AGAIN = "copy or download it again, or delete it"
# What OpenCV decodes at most.
MOST_PIXELS = 2**30
LONGEST_SIDE = 2**20

# A bad file is reported by an exception with its name; OpenCV would also print a line without the
# name.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
# The limit is our own, so that a large picture is no "decompression bomb".
Image.MAX_IMAGE_PIXELS = None

_KINDS_OF_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says about its picture.

    `width` and `height` in pixels, of the upright picture. `channels` as stored: 1 grey, 2 grey and
    alpha, 3 colour, 4 colour and alpha. `bits` per channel, as stored.

    Attributes:
        orientation: EXIF's number, by which the picture is turned upright; 1 is upright as stored.
        colors: what the numbers mean where that is not sRGB, for example "Adobe RGB (1998)".
        converted: from what they are converted to sRGB, for example "CMYK"; empty of RGB and grey.
    """

    width: int
    height: int
    channels: int
    bits: int
    orientation: int = 1
    colors: str = ""
    converted: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a file before its pixels are decoded.

    Attributes:
        header: of the picture as it is stored, not yet upright.
        colors: what the numbers mean once they are decoded.
    """

    header: ImageHeader
    colors: Colors = field(default_factory=Colors)

    def upright(self) -> ImageHeader:
        """The header of the picture after it has been turned upright."""
        header = replace(self.header, colors=self.colors.name)
        if header.orientation in SIDEWAYS:
            return replace(header, width=header.height, height=header.width)
        return header


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded file.

    Attributes:
        rgb: (H, W, 3), contiguous, uint8 or uint16.
        alpha: (H, W) of the same type, 0 transparent; None where there is none.
        colors: what the numbers of `rgb` mean.
    """

    rgb: Pixels
    alpha: Pixels | None = None
    colors: Colors = field(default_factory=Colors)


def require_regular(path: Path | str) -> None:
    """Refuse what is no ordinary file, which could wait for ever once it is opened.

    Raises:
        DataError: if it is a folder, a pipe, a socket or a device.
        OSError: if there is nothing.
    """
    mode = Path(path).stat().st_mode
    if stat.S_ISREG(mode):
        return
    kind = next((word for is_kind, word in _KINDS_OF_FILES if is_kind(mode)), "a device")
    raise DataError(f"{path}: it is {kind} and no picture; remove or rename it")


def identify(path: Path | str, head: bytes) -> Format:
    """The format by the first bytes, whatever the suffix says.

    Raises:
        DataError: if it is none that is read.
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[:2] == b"BM":
        return "BMP"
    raise _unknown_format(path, head)


def _unknown_format(path: Path | str, head: bytes) -> DataError:
    if not head:
        return DataError(f"{path}: the file is empty (0 bytes); {COPY_AGAIN}")
    hint = "delete it or convert it to PNG"
    if head.startswith(b"version https://git-lfs"):
        hint = "it is a Git LFS pointer: run `git lfs pull`"
    elif re.match(rb"\s*<", head):
        hint = "it looks like a web page that was saved in place of the picture: download it again"
    return DataError(
        f"{path}: not a PNG, JPEG, WebP, TIFF or BMP image (it begins with {head[:8]!r}); {hint}"
    )


def require_readable_size(path: Path | str, width: int, height: int) -> None:
    """Refuse what no decoder takes.

    Raises:
        DataError: if a side or the area is too large.
    """
    if max(width, height) > LONGEST_SIDE or width * height > MOST_PIXELS:
        raise DataError(
            f"{path}: the picture is too large to be read ({width}x{height} pixels; at most "
            f"{LONGEST_SIDE:,} a side and {MOST_PIXELS:,} in all): cut it into pieces"
        )


def cut_short(path: Path | str, kind: Format, size: int) -> DataError:
    """The file ends before its picture does."""
    return DataError(f"{path}: the {kind} file is cut short after {size} bytes; {COPY_AGAIN}")


def damaged_header(path: Path | str, kind: Format, why: object) -> DataError:
    """The header makes no sense."""
    return DataError(f"{path}: the {kind} header is damaged ({why}); {COPY_AGAIN}")


def damaged(path: Path | str, kind: Format, why: object) -> DataError:
    """The pixels cannot be decoded, or not all of them."""
    return DataError(f"{path}: the {kind} is damaged ({why}); {COPY_AGAIN}")


def not_read(path: Path | str, what: str) -> DataError:
    """A sound file of a kind that is not read."""
    return DataError(f"{path}: this kind of file ({what}) is not read; convert it to PNG")


def too_many_bits(path: Path | str, bits: int) -> DataError:
    """More bits than are read."""
    return DataError(
        f"{path}: {bits} bit per channel; only 8 and 16 are read: convert it to 16-bit PNG"
    )


def decode_by_opencv(
    path: Path | str, kind: Format, data: bytes | NDArray[np.uint8], *, with_alpha: bool
) -> tuple[Pixels, Pixels | None]:
    """(H, W, 3) RGB as it is stored, and (H, W) alpha if it is asked for and there.

    Raises:
        DataError: if OpenCV cannot decode it.
    """
    flags = cv2.IMREAD_UNCHANGED if with_alpha else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    try:
        # The versions of OpenCV differ on which formats they turn upright: none is left to it.
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise damaged(path, kind, error.err or error.code) from error
    if decoded is None:
        raise damaged(path, kind, "it cannot be decoded")
    if decoded.dtype not in (np.uint8, np.uint16):
        raise too_many_bits(path, decoded.dtype.itemsize * 8)
    alpha: Pixels | None = None
    if decoded.ndim == 2:
        decoded = cv2.cvtColor(decoded, cv2.COLOR_GRAY2RGB)
    elif decoded.shape[2] == 4:
        alpha = np.ascontiguousarray(decoded[..., 3])  # pyright: ignore[reportAssignmentType]
        decoded = cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGB)
    else:
        decoded = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    # The type was just checked, which the checker cannot tell.
    return decoded, alpha  # pyright: ignore[reportReturnType]
