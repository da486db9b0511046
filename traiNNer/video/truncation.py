"""Whether a file ends before its own containers do: exact to the byte, and without a decoder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
# The boxes of ISO/IEC 14496-12 and QuickTime that lie at the top of a file. What has another name
# may be rubbish that was appended.
_BOXES = frozenset(
    b"ftyp moov mdat free skip wide pnot moof mfra sidx ssix styp uuid udta meta pdin prft".split()
)
# RIFF of AVI, and that of its continuation in files above 1 GiB.
_RIFF_KINDS = (b"AVI ", b"AVIX")


def missing_bytes(path: Path) -> int:
    """How many bytes the file lacks by what its own headers say of Matroska, MP4, QuickTime and
    AVI; 0 if it is whole, or does not say.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(12)
        if head[:4] == _EBML:
            end = _matroska_end(file)
        elif head[:4] == b"RIFF":
            end = max(_riff_ends(file, size), default=0)
        elif head[4:8] in _BOXES:
            end = max(_box_ends(file, size), default=0)
        else:
            end = 0
    return max(0, end - size)


def _matroska_end(file: BinaryIO) -> int:
    """Where the segment ends; 0 where it does not say, as in a live stream."""
    file.seek(len(_EBML))
    length = _vint(file)
    if length is None:
        return 0
    file.seek(length, os.SEEK_CUR)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return 0
    length = _vint(file)
    return 0 if length is None else file.tell() + length


def _vint(file: BinaryIO) -> int | None:
    """A number of EBML (RFC 8794, section 4); None for "unknown"."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    # The zero bits in front tell how many bytes follow.
    more = 8 - first[0].bit_length()
    rest = file.read(more)
    if len(rest) < more:
        return None
    bits = 7 * (more + 1)
    value = int.from_bytes(first + rest, "big") & ((1 << bits) - 1)
    return None if value == (1 << bits) - 1 else value


def _riff_ends(file: BinaryIO, size: int) -> Iterator[int]:
    place = 0
    while place + 12 <= size:
        file.seek(place)
        head = file.read(12)
        length = int.from_bytes(head[4:8], "little")
        # 0 is what a writer that was killed leaves, and also what some never fill in.
        if head[:4] != b"RIFF" or head[8:] not in _RIFF_KINDS or not length:
            return
        place += 8 + length
        yield place
        place += length % 2


def _box_ends(file: BinaryIO, size: int) -> Iterator[int]:
    place = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        # 0 is "to the end of the file"; less than its own head is rubbish.
        if head[4:8] not in _BOXES or length < 8:
            return
        place += length
        yield place
