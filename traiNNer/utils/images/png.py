"""PNG files: chunks, pixels, and writing."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import imagecodecs
import numpy as np
from isal import isal_zlib

from traiNNer.utils.errors import DataError
from traiNNer.utils.images.basics import (
    COPY_AGAIN,
    Facts,
    ImageHeader,
    Pixels,
    cut_short,
    damaged,
    damaged_header,
    decode_by_opencv,
    require_readable_size,
)
from traiNNer.utils.images.colors import COLOR_CHUNKS, Colors, read_exif

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
# By colour type; a palette is colour.
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
# Of the standard: which depths belong to a colour type.
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PALETTE = 3
_TRUE_COLOR = 2
# In a file: the first chunk is the header, of one length.
_COLOR_TYPE_AT = 25
_INTERLACED_IN_CHUNK = 20
# Of what zlib stores as it is, in bytes; its length has 16 bits.
_LONGEST_BLOCK = 0xFFFF
# Some programs write EXIF behind the pixels, at the end of a file. This many bytes of it are looked
# at, which is as much as EXIF may have in a JPEG, and thumbnails seldom need.
_TAIL = 2**16
# A profile of a megabyte is a large one; more is an attack on the memory.
_MOST_PROFILE = 2**24
_NAMES_TO_KEEP = (b"iCCP", b"eXIf", b"tRNS", *COLOR_CHUNKS)


def read_facts(path: Path | str, file: BinaryIO) -> Facts:
    """The chunks before the pixels, and those at the end.

    Raises:
        DataError: if they are damaged, or the end chunk is missing.
    """
    file.seek(0)
    head = file.read(33)
    width, height, bits, color_type = _read_first_chunk(path, head)
    require_readable_size(path, width, height)
    kept = dict(_chunks_before_pixels(file))
    tail = _read_end(path, file)
    if b"eXIf" not in kept:
        kept[b"eXIf"] = _exif_behind_pixels(tail)
    channels = _CHANNELS[color_type]
    if b"tRNS" in kept and channels in (1, 3):
        channels += 1
    orientation, adobe_rgb = read_exif(kept[b"eXIf"]) if kept[b"eXIf"] else (1, False)
    chunks = tuple((name, kept[name]) for name in COLOR_CHUNKS if name in kept)
    colors = Colors(_unpack_profile(kept.get(b"iCCP", b"")), chunks, adobe_rgb)
    header = ImageHeader(
        width, height, channels, 8 if color_type == _PALETTE else bits, orientation=orientation
    )
    return Facts(header, colors)


def decode(
    path: Path | str, data: bytes, facts: Facts, *, with_alpha: bool, rows: int | None = None
) -> tuple[Pixels, Pixels | None]:
    """(H, W, 3) RGB as it is stored, and (H, W) alpha if it is asked for.

    Args:
        path: for messages.
        data: the file.
        facts: of its header.
        with_alpha: decode alpha too.
        rows: how many of the first rows are wanted; there may be more.

    Raises:
        DataError: if the file is cut short or damaged.
    """
    with_alpha = with_alpha and facts.header.channels in (2, 4)
    chunks = _sound_chunks(path, data)
    if (facts.header.channels, facts.header.bits, data[_COLOR_TYPE_AT]) == (3, 8, _TRUE_COLOR):
        rgb = _decode_true_color(chunks, facts.header, rows)
        if rgb is not None:
            return rgb, None
    rgb, alpha = decode_by_opencv(path, "PNG", b"".join(chunks), with_alpha=with_alpha)
    if with_alpha and alpha is None:
        alpha = _alpha_of_grey(data, rgb, facts.header.bits)
    return rgb, alpha


def _decode_true_color(
    chunks: Sequence[bytes | memoryview], header: ImageHeader, rows: int | None
) -> Pixels | None:
    """(H, W, 3) of three channels of 8 bit, in two thirds of the time that OpenCV takes; None of
    what is damaged.
    """
    is_interlaced = bool(chunks[1][_INTERLACED_IN_CHUNK])
    try:
        if rows is None or rows >= header.height or is_interlaced:
            return imagecodecs.spng_decode(b"".join(chunks))
        return imagecodecs.spng_decode(_first_rows(chunks, header, rows))
    # isal calls its error a variable.
    except (imagecodecs.SpngError, isal_zlib.error):  # pyright: ignore[reportGeneralTypeIssues]
        return None


def _first_rows(chunks: Sequence[bytes | memoryview], header: ImageHeader, rows: int) -> bytes:
    """A PNG of the first rows alone. Its pixels are unpacked already: filtered, each row behind the
    number of its filter.

    Raises:
        isal_zlib.error: if they are damaged.
    """
    packed = b"".join(chunk[8:-4] for chunk in chunks if chunk[4:8] == b"IDAT")
    nbytes = rows * (3 * header.width + 1)
    filtered = isal_zlib.decompressobj().decompress(packed, nbytes)
    # What zlib makes of them without packing: a head, blocks, a checksum. In as few copies as can
    # be, which take as long as unpacking does.
    body: list[bytes | memoryview] = [b"IDAT", b"\x78\x01"]
    view = memoryview(filtered)
    for start in range(0, len(view), _LONGEST_BLOCK):
        block = view[start : start + _LONGEST_BLOCK]
        is_last = start + _LONGEST_BLOCK >= len(view)
        body += [struct.pack("<BHH", is_last, len(block), len(block) ^ _LONGEST_BLOCK), block]
    body.append(struct.pack(">I", isal_zlib.adler32(filtered)))
    length = sum(map(len, body)) - len(b"IDAT")
    checksum = 0
    for part in body:
        checksum = isal_zlib.crc32(part, checksum)
    first = struct.pack(">II", header.width, rows) + bytes(chunks[1][16:21])
    return b"".join(
        [
            _SIGNATURE,
            make_chunk(b"IHDR", first),
            struct.pack(">I", length),
            *body,
            struct.pack(">I", checksum),
            _END,
        ]
    )


def _alpha_of_grey(data: bytes, rgb: Pixels, bits: int) -> Pixels | None:
    """Where a grey picture names one of its levels as transparent, which OpenCV passes over."""
    file = io.BytesIO(data)
    file.seek(33)
    transparent = dict(_chunks_before_pixels(file)).get(b"tRNS", b"")
    if len(transparent) != 2:
        return None
    largest = np.iinfo(rgb.dtype).max
    level = int.from_bytes(transparent, "big") * (largest // (2**bits - 1))
    return np.where(rgb[..., 0] == level, 0, largest).astype(rgb.dtype)


def encode(path: Path, rgb: Pixels, alpha: Pixels | None, colors: Colors) -> bytes:
    """A PNG that says what its numbers mean, as far as a colour PNG can.

    Raises:
        ValueError: if OpenCV cannot encode it.
    """
    channels = np.dstack((rgb[..., ::-1], *([] if alpha is None else [alpha])))
    done, encoded = cv2.imencode(".png", channels)
    if not done:
        raise ValueError(
            f"{path}: a picture of {rgb.shape[1]}x{rgb.shape[0]} cannot be encoded as PNG"
        )
    return add_colors(encoded.tobytes(), colors)


def add_colors(png: bytes, colors: Colors) -> bytes:
    """A PNG with the chunks of `colors` behind its first chunk, where they belong."""
    chunks = [make_chunk(name, content) for name, content in colors.chunks]
    if colors.icc and colors.fits_png:
        # The name is no more than a label; 79 bytes of Latin-1 are allowed.
        label = colors.name.encode("latin-1", "replace")[:79].strip() or b"sRGB"
        chunks.append(make_chunk(b"iCCP", label + b"\0\0" + zlib.compress(colors.icc)))
    return b"".join([png[:33], *chunks, png[33:]])


def make_chunk(name: bytes, content: bytes) -> bytes:
    """A chunk as it stands in a file."""
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def _read_first_chunk(path: Path | str, head: bytes) -> tuple[int, int, int, int]:
    """Width, height, bits and colour type."""
    if len(head) < 33:
        raise cut_short(path, "PNG", len(head))
    width, height, bits, color_type = struct.unpack(">IIBB", head[16:26])
    if head[12:16] != b"IHDR" or not width or not height:
        raise damaged_header(path, "PNG", "no size")
    if bits not in _DEPTHS.get(color_type, ()):
        raise damaged_header(path, "PNG", f"colour type {color_type} with {bits} bit")
    return width, height, bits, color_type


def _chunks_before_pixels(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of what is kept of the chunks from the second one to the pixels; what is
    damaged is left out.
    """
    while True:
        head = file.read(8)
        if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
            return
        length = int.from_bytes(head[:4], "big")
        name = head[4:]
        if name not in _NAMES_TO_KEEP or length > _MOST_PROFILE:
            file.seek(length + 4, io.SEEK_CUR)
            continue
        content = file.read(length)
        checksum = file.read(4)
        if checksum == zlib.crc32(name + content).to_bytes(4, "big"):
            yield name, content


def _read_end(path: Path | str, file: BinaryIO) -> bytes:
    """The last bytes of the picture, with the end chunk."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    end = tail.rfind(_END)
    if end < 0:
        # Some programs append bytes of their own.
        file.seek(0)
        whole = file.read()
        end = whole.find(_END)
        if end < 0:
            raise cut_short(path, "PNG", size)
        return whole[max(0, end - _TAIL) : end]
    return tail[:end]


def _exif_behind_pixels(tail: bytes) -> bytes:
    position = tail.rfind(b"eXIf")
    if position < 4:
        return b""
    length = int.from_bytes(tail[position - 4 : position], "big")
    content = tail[position + 4 : position + 4 + length]
    checksum = tail[position + 4 + length : position + 8 + length]
    # Four letters alone may stand anywhere in the pixels.
    is_chunk = checksum == zlib.crc32(b"eXIf" + content).to_bytes(4, "big")
    return content if is_chunk else b""


def _unpack_profile(content: bytes) -> bytes:
    """The ICC profile of an iCCP chunk; empty if there is none or it is damaged."""
    packed = content.partition(b"\0")[2][1:]
    if not packed:
        return b""
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(packed, _MOST_PROFILE)
    except zlib.error:
        return b""
    return b"" if unpacker.unconsumed_tail else profile


def _sound_chunks(path: Path | str, data: bytes) -> list[bytes | memoryview]:
    """Check that the file ends with its end chunk and that every checksum is right; the signature
    and the chunks that hold the pixels.

    The rest (colour profiles, EXIF, animations) is left out: versions of OpenCV treat it
    differently, and libpng prints a line about each profile that it does not like.
    """
    view = memoryview(data)
    position = len(_SIGNATURE)
    size = len(data)
    chunks: list[bytes | memoryview] = [_SIGNATURE]
    names: set[bytes] = set()
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
                    f"{path}: the PNG is damaged at byte {position} (wrong checksum); {COPY_AGAIN}"
                )
            chunks.append(view[position:end])
            names.add(name)
        if name == b"IEND":
            if b"IDAT" not in names:
                raise damaged(path, "PNG", "it has no pixels")
            return chunks
        position = end
    raise cut_short(path, "PNG", size)
