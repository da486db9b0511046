"""The headers of images that were read before, in the user's cache folder."""

from __future__ import annotations

import json
import logging
from dataclasses import astuple
from pathlib import Path

from traiNNer.utils.errors import DiskError
from traiNNer.utils.files import FileStamp, write_atomic
from traiNNer.utils.images import ImageHeader

log = logging.getLogger(__name__)

# To be raised when what is remembered means something else, so that older caches are ignored.
_CACHE_VERSION = 3
# A PNG's sides have 31 bits; what is remembered beyond that was written by somebody else.
_LARGEST_SIDE = 2**31
_MOST_BITS = 16
# EXIF numbers them from 1.
_ORIENTATIONS = 8


Headers = dict[str, tuple[FileStamp, ImageHeader]]


def load_headers(path: Path | None) -> Headers:
    """Relative path to stamp and header. Whatever is wrong with the cache, it is empty then."""
    if path is None:
        return {}
    try:
        if not path.is_file():
            return {}
        content = json.loads(path.read_bytes())
        if content["version"] != _CACHE_VERSION:
            return {}
        headers = [_header(*facts) for facts in content["headers"]]
        return {
            name: (_stamp(size, mtime_ns), _chosen(headers, place))
            for name, (size, mtime_ns, place) in content["images"].items()
        }
    # What a file holds that anybody may have written is beyond listing: nothing depends on it.
    except Exception as error:  # noqa: BLE001
        log.debug("the remembered headers in %s are ignored: %r", path, error)
        return {}


def _stamp(size: int, mtime_ns: int) -> FileStamp:
    """Of a file.

    Raises:
        ValueError: for what are no whole numbers.
    """
    # Not isinstance: true is an int too.
    if type(size) is not int or type(mtime_ns) is not int:
        raise ValueError(f"not whole numbers: {size}, {mtime_ns}")
    return FileStamp(size, mtime_ns)


def _chosen(headers: list[ImageHeader], place: int) -> ImageHeader:
    """That at the place; files of one kind have one header for all.

    Raises:
        ValueError: for a place that is none.
    """
    if type(place) is not int or not 0 <= place < len(headers):
        raise ValueError(f"no place among {len(headers)} headers: {place}")
    return headers[place]


def _header(*header: int | str) -> ImageHeader:
    """An entry of the list of headers.

    Raises:
        ValueError: for what no picture has.
    """
    width, height, channels, bits, orientation, colors, converted = header
    numbers = (width, height, channels, bits, orientation)
    if any(type(number) is not int for number in numbers):
        raise ValueError(f"not whole numbers: {numbers}")
    if not (isinstance(colors, str) and isinstance(converted, str)):
        raise ValueError(f"no text: {colors!r}, {converted!r}")
    known = ImageHeader(*map(int, header[:5]), colors=colors, converted=converted)
    if not (0 < known.width < _LARGEST_SIDE and 0 < known.height < _LARGEST_SIDE):
        raise ValueError(f"no size of a picture: {width}x{height}")
    # As `ImageHeader` has them.
    if known.channels not in (1, 2, 3, 4) or not 0 < known.bits <= _MOST_BITS:
        raise ValueError(f"no kind of picture: {channels} channels of {bits} bits")
    if not 1 <= known.orientation <= _ORIENTATIONS:
        raise ValueError(f"no orientation of EXIF: {orientation}")
    return known


def save_headers(path: Path | None, entries: Headers) -> None:
    """Remember headers by relative path; where that is not possible, nothing is lost but time."""
    if path is None:
        return
    places: dict[ImageHeader, int] = {}
    images = {
        name: (*stamp, places.setdefault(header, len(places)))
        for name, (stamp, header) in entries.items()
    }
    headers = [astuple(header) for header in places]
    content = json.dumps({"version": _CACHE_VERSION, "headers": headers, "images": images})
    try:
        # Names need not be valid text; they come back as they were.
        write_atomic(path, content.encode("utf-8", "surrogatepass"))
    except (DiskError, OSError) as error:
        log.debug("headers are not remembered: %s", error)
