"""Image files: the header alone, the pixels, and writing. An unusable file is a `DataError` that
says what to do.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from traiNNer.utils.errors import DataError
from traiNNer.utils.files import write_atomic

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")

Pixels: TypeAlias = NDArray[np.uint8 | np.uint16]
Format = Literal["PNG", "JPEG", "WebP", "TIFF", "BMP"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
# By colour type; a palette is colour.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PILLOW_CHANNELS = {
    "1": 1,
    "L": 1,
    "I": 1,
    "I;16": 1,
    "I;16B": 1,
    "I;16L": 1,
    "F": 1,
    "LA": 2,
    "RGBA": 4,
    "RGBa": 4,
}
_EXIF_ORIENTATION = 0x0112
_TIFF_BITS = 258
_TIFF_WIDTH = 256
_TIFF_HEIGHT = 257
# EXIF orientations that swap width and height.
_SIDEWAYS = (5, 6, 7, 8)
# What Pillow's readers trip over in damaged files; SyntaxError is its own word for a wrong format.
_PILLOW_ERRORS = (SyntaxError, ValueError, KeyError, TypeError, IndexError, struct.error)
_COPY_AGAIN = "copy or download it again, or delete it"

# A bad file is reported by an exception with its name; OpenCV would also print a line without the
# name.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
# Pillow only reads headers here, so that a large picture is no "decompression bomb".
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says about its picture.

    `width` and `height` in pixels, as decoded (after a JPEG's EXIF rotation). `channels` as stored:
    1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha. `bits` per channel, as stored.
    """

    width: int
    height: int
    channels: int
    bits: int


def read_header(path: Path | str) -> ImageHeader:
    """Read the header and check cheaply that the file is a whole image, without decoding it.

    Raises:
        DataError: if the file cannot be read, is empty, is no image or is cut short.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            # A PNG's signature and its first chunk, which hold all that is asked.
            head = file.read(33)
            kind = _identify(path, head)
            if kind == "PNG":
                _check_png_end(path, file)
                return _png_header(path, head)
        with open(path, "rb") as file:
            if kind == "JPEG":
                _check_jpeg_end(path, file)
            elif kind == "WebP":
                _check_webp_size(path, head, file.seek(0, io.SEEK_END))
            return _pillow_header(path, file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_image(path: Path) -> Pixels:
    """Decode a picture to RGB.

    Grey is repeated to three channels, alpha is dropped, palettes and CMYK are converted, a JPEG's
    EXIF rotation is applied.

    Returns:
        (H, W, 3), contiguous, uint8 (0 to 255) or uint16 (0 to 65535).

    Raises:
        DataError: if the file cannot be read, is no image, is damaged or has samples of more than
            16 bit.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    kind = _identify(path, data[:33])
    data = _check_complete(path, kind, data)
    if kind == "TIFF":
        pixels = _decode_tiff(path, data)
    else:
        # Only a JPEG's rotation is customary; the versions of OpenCV differ on the other formats.
        pixels = _decode(path, data, 0 if kind == "JPEG" else cv2.IMREAD_IGNORE_ORIENTATION)
    return pixels


def write_image(path: Path, rgb: Pixels) -> None:
    """Write a PNG, whole or not at all.

    Args:
        path: the file, ending in .png; missing folders are made.
        rgb: (H, W, 3), uint8 or uint16.

    Raises:
        ValueError: if the array has another shape or dtype.
        DiskError: if writing fails.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"expected an (H, W, 3) array of uint8 or uint16, got {rgb.shape} of {rgb.dtype}"
        )
    done, encoded = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(
            f"{path}: a picture of {rgb.shape[1]}x{rgb.shape[0]} cannot be encoded as PNG"
        )
    write_atomic(path, encoded.tobytes())


def image_to_tensor(rgb: Pixels) -> torch.Tensor:
    """(H, W, 3) to a new contiguous tensor (3, H, W): uint8 stays, uint16 becomes float32 in [0,
    1].

    Eight bit stays eight bit because it is four times smaller on the way from the workers and to
    the device, where `Batch.to` converts it.
    """
    chw = rgb.transpose(2, 0, 1)
    if rgb.dtype == np.uint8:
        return torch.from_numpy(np.array(chw, order="C"))
    if rgb.dtype == np.uint16:
        return torch.from_numpy(np.divide(chw, 65535.0, dtype=np.float32, order="C"))
    raise ValueError(f"expected uint8 or uint16, got {rgb.dtype}")


def _identify(path: Path | str, head: bytes) -> Format:
    """The format by the first bytes, whatever the suffix says."""
    if head.startswith(_PNG_SIGNATURE):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[:2] == b"BM":
        return "BMP"
    if not head:
        raise DataError(f"{path}: the file is empty (0 bytes); {_COPY_AGAIN}")
    hint = "delete it or convert it to PNG"
    if head.startswith(b"version https://git-lfs"):
        hint = "it is a Git LFS pointer: run `git lfs pull`"
    elif re.match(rb"\s*<", head):
        hint = "it looks like a web page that was saved in place of the picture: download it again"
    raise DataError(
        f"{path}: not a PNG, JPEG, WebP, TIFF or BMP image (it begins with {head[:8]!r}); {hint}"
    )


def _check_complete(path: Path | str, kind: Format, data: bytes) -> bytes:
    """What to decode. OpenCV returns a part of the picture for some incomplete files, and says
    nothing.
    """
    if kind == "PNG":
        return _check_png_chunks(path, data)
    elif kind == "JPEG":
        _check_jpeg_end(path, io.BytesIO(data))
    elif kind == "WebP":
        _check_webp_size(path, data[:12], len(data))
    return data


def _cut_short(path: Path | str, kind: Format, size: int) -> DataError:
    return DataError(f"{path}: the {kind} file is cut short after {size} bytes; {_COPY_AGAIN}")


def _png_header(path: Path | str, head: bytes) -> ImageHeader:
    width, height, bits, colour = struct.unpack(">IIBB", head[16:26])
    if head[12:16] != b"IHDR" or colour not in _PNG_CHANNELS or not width or not height:
        raise DataError(f"{path}: the PNG header is damaged; {_COPY_AGAIN}")
    return ImageHeader(width, height, _PNG_CHANNELS[colour], 8 if colour == 3 else bits)


def _check_png_end(path: Path | str, file: io.FileIO) -> None:
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - len(_PNG_END)))
    if file.read(len(_PNG_END)) == _PNG_END:
        return
    # Some programs append bytes of their own.
    file.seek(0)
    if _PNG_END not in file.read():
        raise _cut_short(path, "PNG", size)


def _check_png_chunks(path: Path | str, data: bytes) -> bytes:
    """Check that the file ends with its end chunk and that every checksum is right; return what
    holds the pixels.

    The rest (colour profiles, EXIF, animations) is left out: versions of OpenCV treat it
    differently, and libpng prints a line about each profile that it does not like.
    """
    view = memoryview(data)
    position = len(_PNG_SIGNATURE)
    size = len(data)
    chunks: list[bytes | memoryview] = [_PNG_SIGNATURE]
    while position + 12 <= size:
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length
        if end > size:
            break
        name = data[position + 4 : position + 8]
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        # Upper case means that a picture cannot be decoded without the chunk.
        if name[:1].isupper() or name == b"tRNS":
            if zlib.crc32(view[position + 4 : end - 4]) != checksum:
                raise DataError(
                    f"{path}: the PNG is damaged at byte {position} (wrong checksum); {_COPY_AGAIN}"
                )
            chunks.append(view[position:end])
        if name == b"IEND":
            return b"".join(chunks)
        position = end
    raise _cut_short(path, "PNG", size)


def _check_jpeg_end(path: Path | str, file: BinaryIO) -> None:
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 2))
    if file.read(2) != b"\xff\xd9":
        # Some cameras append bytes of their own; a thumbnail in the header has an end marker too.
        file.seek(0)
        data = file.read()
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise _cut_short(path, "JPEG", size)
    file.seek(0)


def _check_webp_size(path: Path | str, head: bytes, size: int) -> None:
    if struct.unpack("<I", head[4:8])[0] + 8 > size:
        raise _cut_short(path, "WebP", size)


def _pillow_header(path: Path | str, file: BinaryIO) -> ImageHeader:
    file.seek(0)
    try:
        with Image.open(file) as image:
            width, height = image.size
            bits = _bits(image.mode)
            tags = getattr(image, "tag_v2", None)
            # Only of TIFF. Pillow turns a picture that lies on its side before it tells its size.
            if tags is not None:
                width = int(tags[_TIFF_WIDTH])
                height = int(tags[_TIFF_HEIGHT])
                bits = max(tags.get(_TIFF_BITS, (1,)))
                sideways = tags.get(_EXIF_ORIENTATION) in _SIDEWAYS
            else:
                sideways = image.format in ("JPEG", "MPO") and _jpeg_orientation(image) in _SIDEWAYS
            channels = _PILLOW_CHANNELS.get(image.mode, 3)
    except UnidentifiedImageError:
        # OpenCV knows kinds of TIFF that Pillow does not.
        pixels = read_image(Path(path))
        return ImageHeader(pixels.shape[1], pixels.shape[0], 3, pixels.dtype.itemsize * 8)
    except _PILLOW_ERRORS as error:
        raise DataError(f"{path}: the header is damaged ({error}); {_COPY_AGAIN}") from error
    if bits > 16:
        raise _too_many_bits(path, bits)
    return (
        ImageHeader(height, width, channels, bits)
        if sideways
        else ImageHeader(width, height, channels, bits)
    )


def _bits(mode: str) -> int:
    """Bits per channel of a mode of Pillow's."""
    if mode == "1":
        return 1
    return 16 if mode.startswith("I;16") else 8


def _jpeg_orientation(image: Image.Image) -> int:
    if "exif" not in image.info:
        return 1
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except (OSError, *_PILLOW_ERRORS):
        # The decoder ignores damaged EXIF data, too.
        return 1


def _too_many_bits(path: Path | str, bits: int) -> DataError:
    return DataError(
        f"{path}: {bits} bit per channel; only 8 and 16 are read: convert it to 16-bit PNG"
    )


def _decode(path: Path, data: bytes, flags: int) -> Pixels:
    """(H, W, 3) RGB by OpenCV."""
    try:
        bgr = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | flags
        )
    except cv2.error as error:
        raise DataError(
            f"{path}: cannot be decoded ({error.err or error.code}); {_COPY_AGAIN}"
        ) from error
    if bgr is None:
        raise DataError(f"{path}: the file is damaged and cannot be decoded; {_COPY_AGAIN}")
    if bgr.dtype == np.uint8 or bgr.dtype == np.uint16:
        # The type was just checked, which the checker cannot tell.
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # pyright: ignore[reportReturnType]
    raise _too_many_bits(path, bgr.dtype.itemsize * 8)


def _decode_tiff(path: Path, data: bytes) -> Pixels:
    """As `_decode`, but without the multiplication by alpha that OpenCV does for 8-bit TIFF."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if (
                image.mode in ("RGBA", "LA")
                and max(getattr(image, "tag_v2", {}).get(_TIFF_BITS, (1,))) == 8
            ):
                # Applies the orientation, as OpenCV does.
                image.load()
                opaque = np.array(image)[..., : len(image.getbands()) - 1]
                return opaque.repeat(3 if image.mode == "LA" else 1, axis=2)
    except UnidentifiedImageError:
        # OpenCV knows kinds of TIFF that Pillow does not.
        pass
    except (OSError, *_PILLOW_ERRORS) as error:
        raise DataError(f"{path}: the TIFF is damaged ({error}); {_COPY_AGAIN}") from error
    return _decode(path, data, 0)
