"""TIFF files. The tags say what is in a file; a combination that was never compared with a second
reader is refused by name.
"""

from __future__ import annotations

import io
import logging
import lzma
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from traiNNer.utils.errors import DataError
from traiNNer.utils.images import jpeg
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
    too_many_bits,
)
from traiNNer.utils.images.colors import (
    ORIENTATION_TAG,
    Colors,
    as_orientation,
    has_ink_profile,
    to_srgb,
)

if TYPE_CHECKING:
    from tifffile import TiffPage

# Values of PhotometricInterpretation.
_WHITE_IS_ZERO = 0
_BLACK_IS_ZERO = 1
_RGB = 2
_PALETTE = 3
_INK = 5
_YCBCR = 6
_PHOTOMETRIC_NAMES = {
    _WHITE_IS_ZERO: "grey, white is zero",
    _BLACK_IS_ZERO: "grey",
    _RGB: "RGB",
    _PALETTE: "palette",
    4: "mask",
    _INK: "CMYK",
    _YCBCR: "YCbCr",
    8: "Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "raw sensor data",
    34892: "linear raw",
}
# How many samples of a pixel are its colour. Without Lab, of which readers make different colours:
# they do not agree on its white.
_COLOR_SAMPLES = {
    _WHITE_IS_ZERO: 1,
    _BLACK_IS_ZERO: 1,
    _RGB: 3,
    _PALETTE: 1,
    _INK: 4,
    _YCBCR: 3,
}
# None, three of fax machines, LZW, deflate (two numbers), packbits, LZMA, Zstandard.
_COMPRESSIONS = (1, 2, 3, 4, 5, 8, 32946, 32773, 34925, 50000)
_JPEG = 7
# No prediction, and differences of neighbours.
_PREDICTORS = (1, 2)
_UNSIGNED = 1
_UNDEFINED = 4
# Values of ExtraSamples that mean transparency.
_PREMULTIPLIED = 1
_STRAIGHT = 2

# What tifffile and the codecs raise, which is whatever a wrong number happens to trip over.
_ERRORS = (
    *PILLOW_ERRORS,
    OSError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
)

# A bad file is reported by an exception with its name; tifffile would also log a line.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class _Tags:
    """What the tags say. `samples` of a pixel, with alpha and other extra ones; `alpha` is the
    value of ExtraSamples that means transparency, 0 for none.
    """

    width: int
    height: int
    bits: int
    samples: int
    photometric: int
    planar: bool
    tiled: bool
    compression: int
    compression_name: str
    predictor: int
    sample_format: int
    alpha: int
    orientation: int
    icc: bytes

    @property
    def color_samples(self) -> int:
        """How many samples of a pixel are its colour."""
        return _COLOR_SAMPLES[self.photometric]

    def describe(self) -> str:
        """For a message."""
        color = _PHOTOMETRIC_NAMES.get(
            self.photometric, f"photometric interpretation {self.photometric}"
        )
        words = [f"TIFF, {self.bits} bit, {color}, {self.samples} samples"]
        words += ["one plane for each"] * self.planar
        words += ["tiles"] * self.tiled
        words.append(f"compression {self.compression_name}")
        return ", ".join(words)


def read_facts(path: Path | str, file: BinaryIO) -> Facts:
    """The tags of the first picture of a file.

    Raises:
        DataError: if they are damaged, point behind the end of the file, or tell of a kind that is
            not read.
    """
    tags = _read_tags(path, file)
    _require_kind(path, tags)
    converted = ""
    colors = Colors(tags.icc)
    if tags.photometric == _INK:
        converted = "CMYK by its profile" if has_ink_profile(tags.icc) else "CMYK without a profile"
        colors = Colors()
    is_grey = tags.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    channels = (1 if is_grey else 3) + (1 if tags.alpha else 0)
    header = ImageHeader(
        tags.width, tags.height, channels, tags.bits, tags.orientation, converted=converted
    )
    return Facts(header, colors)


def decode(path: Path | str, data: bytes) -> tuple[Pixels, Pixels | None]:
    """(H, W, 3) RGB as it is stored, and (H, W) alpha where there is one.

    Raises:
        DataError: if the file is damaged.
    """
    tags = _read_tags(path, io.BytesIO(data))
    _require_kind(path, tags)
    return _convert(*_read_samples(path, data), tags)


def _require_kind(path: Path | str, tags: _Tags) -> None:
    """Refuse what was never compared with a second reader."""
    require_readable_size(path, tags.width, tags.height)
    if tags.bits > 16:
        raise too_many_bits(path, tags.bits)
    if tags.sample_format not in (_UNSIGNED, _UNDEFINED):
        raise not_read(path, f"{tags.describe()}, signed or floating-point numbers")
    if not _is_compared(tags):
        raise not_read(path, tags.describe())
    if tags.samples < tags.color_samples:
        raise damaged_header(path, "TIFF", f"{tags.samples} samples for {tags.describe()}")


def _is_compared(tags: _Tags) -> bool:
    if tags.photometric not in _COLOR_SAMPLES or tags.predictor not in _PREDICTORS:
        return False
    if tags.compression == _JPEG:
        # The decoder of the JPEG makes RGB of YCbCr.
        return tags.bits == 8 and tags.photometric != _PALETTE
    if tags.compression not in _COMPRESSIONS or tags.photometric == _YCBCR:
        return False
    if tags.bits in (1, 2, 4):
        # Masks, scans of text and palettes.
        return tags.samples == 1
    if tags.bits == 16:
        return tags.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
    return tags.bits == 8


def _read_tags(path: Path | str, file: BinaryIO) -> _Tags:
    # 40 ms, which only those with TIFF files have to wait.
    import tifffile

    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        with tifffile.TiffFile(file, name=str(path)) as tiff:
            page = tiff.pages.first
            if int(page.photometric) == _PALETTE and page.colormap is None:
                raise damaged_header(path, "TIFF", "no palette")
            _require_all_segments(path, page, size)
            return _tags_of(path, page)
    except DataError:
        raise
    except (tifffile.TiffFileError, MemoryError, *_ERRORS) as error:
        raise damaged_header(path, "TIFF", error) from error


def _tags_of(path: Path | str, page: TiffPage) -> _Tags:
    width = int(page.imagewidth)
    height = int(page.imagelength)
    bits = page.bitspersample
    if not isinstance(bits, int) or not width or not height:
        raise not_read(path, f"TIFF, {bits} bit, {width}x{height}")
    extra = [int(kind) for kind in page.extrasamples]
    alpha = extra[0] if extra and extra[0] in (_PREMULTIPLIED, _STRAIGHT) else 0
    if not extra and int(page.samplesperpixel) - 1 == _COLOR_SAMPLES.get(int(page.photometric)):
        # OpenCV and others leave the tag out, and mean transparency.
        alpha = _STRAIGHT
    # Of CMYK an extra sample is no transparency that anybody sees.
    if int(page.photometric) in (_INK, _YCBCR):
        alpha = 0
    turned = page.tags.get(ORIENTATION_TAG)
    return _Tags(
        width=width,
        height=height,
        bits=bits,
        samples=int(page.samplesperpixel),
        photometric=int(page.photometric),
        planar=int(page.planarconfig) == 2 and int(page.samplesperpixel) > 1,
        tiled=page.is_tiled,
        compression=int(page.compression),
        compression_name=getattr(page.compression, "name", str(int(page.compression))),
        predictor=int(page.predictor),
        sample_format=int(page.sampleformat),
        alpha=alpha,
        orientation=as_orientation(1 if turned is None else turned.value),
        icc=page.iccprofile or b"",
    )


def _require_all_segments(path: Path | str, page: TiffPage, size: int) -> None:
    """Refuse a file whose strips or tiles are not all there."""
    ends = [
        offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    ]
    if not ends or 0 in page.databytecounts:
        raise damaged(path, "TIFF", "a part of the pixels is missing")
    if max(ends) > size:
        raise cut_short(path, "TIFF", size)
    if int(page.compression) == 1 and isinstance(page.bitspersample, int):
        samples = int(page.imagewidth) * int(page.imagelength) * int(page.samplesperpixel)
        if int(page.photometric) != _YCBCR and sum(page.databytecounts) < math.ceil(
            samples * page.bitspersample / 8
        ):
            raise damaged(path, "TIFF", "too few bytes for its size")


def _read_samples(path: Path | str, data: bytes) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """(H, W, samples) as they are stored, and the colours of a palette (3, entries)."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data), name=str(path)) as tiff:
            page = tiff.pages.first
            if int(page.compression) == _JPEG:
                _check_jpegs(path, page, data)
            # One thread: reading processes are many already.
            samples = page.asarray(maxworkers=1)
            if samples.ndim == 3 and int(page.planarconfig) == 2:
                samples = np.moveaxis(samples, 0, -1)
            palette = page.colormap
    except (tifffile.TiffFileError, MemoryError, zlib.error, lzma.LZMAError, *_ERRORS) as error:
        raise damaged(path, "TIFF", error) from error
    return samples.reshape(*samples.shape[:2], -1), palette


def _check_jpegs(path: Path | str, page: TiffPage, data: bytes) -> None:
    """Decode what is JPEG once more, by the decoder that tells what it stumbles over."""
    tables = page.jpegtables or b"\xff\xd8\xff\xd9"
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        part = data[offset : offset + count]
        # The tables' end and the part's start are no markers of the whole.
        jpeg.decode_strictly(path, tables[:-2] + part[2:])


def _convert(
    samples: NDArray[Any], palette: NDArray[Any] | None, tags: _Tags
) -> tuple[Pixels, Pixels | None]:
    """RGB and alpha of the samples as they are stored."""
    color = np.ascontiguousarray(samples[..., : tags.color_samples])
    if tags.photometric == _PALETTE:
        return _look_up(color, palette), None
    color = _widen(color, tags.bits)
    largest = np.iinfo(color.dtype).max
    alpha: Any = None
    if tags.alpha:
        alpha = _widen(np.ascontiguousarray(samples[..., tags.color_samples]), tags.bits)
        if tags.alpha == _PREMULTIPLIED:
            color = _divide(color, alpha, largest)
    if tags.photometric == _WHITE_IS_ZERO:
        color = largest - color
    if tags.photometric == _INK:
        image = Image.frombytes("CMYK", (tags.width, tags.height), color.tobytes())
        return np.array(to_srgb(image, tags.icc)), None
    if tags.color_samples == 1:
        color = color.repeat(3, axis=2)
    return color, alpha


def _widen(samples: NDArray[Any], bits: int) -> NDArray[Any]:
    """Numbers of 8 or 16 bit in this machine's order of bytes."""
    if bits < 8:
        return samples.astype(np.uint8) * np.uint8(255 // (2**bits - 1))
    return samples.astype(np.uint16 if bits == 16 else np.uint8, copy=False)


def _look_up(indices: NDArray[Any], palette: NDArray[Any] | None) -> Pixels:
    """The colours of a palette, whose entries have 16 bit of which 8 count."""
    if palette is None:
        raise ValueError("a palette was asked for by the header's check")
    # Some programs fill the lower 8 bits alone.
    shift = 8 if palette.max() > 255 else 0
    colors = (palette >> shift).astype(np.uint8).T
    return np.ascontiguousarray(colors[indices[..., 0].astype(np.intp)])


def _divide(color: NDArray[Any], alpha: NDArray[Any], largest: int) -> NDArray[Any]:
    """Colours that were multiplied by their opacity as they were before."""
    # Nothing is known of a pixel that cannot be seen: it stays as it is.
    opacity = np.where(alpha == 0, largest, alpha).astype(np.float64) / largest
    return np.clip(np.rint(color / opacity[..., None]), 0, largest).astype(color.dtype)
