"""Finding images in folders and pairing GT with LQ. Only headers are read, and what was read is
remembered.

Everything that is wrong is collected and raised as one `DataError`, because a data set is fixed
faster when all of its problems are known.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from traiNNer.utils.errors import DataError, DiskError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.images import IMAGE_SUFFIXES, ImageHeader, read_header
from traiNNer.utils.problems import Problems
from traiNNer.utils.scan_cache import cache_path

log = logging.getLogger(__name__)

# To be raised when what is remembered means something else, so that older caches are ignored.
_CACHE_VERSION = 1
# Threads overlap the waiting for a cold disk; more of them only fight for the interpreter.
_THREADS = 4
# Files that a thread is given at once: handing out single ones costs as much as reading a header.
_CHUNK = 256

HeaderReader = Callable[[str], ImageHeader]


class FileStamp(NamedTuple):
    """Size in bytes and time of the last change in nanoseconds, by which a file is known again.

    A hash of the content would be surer, and would read what headers spare.
    """

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStamp:
        """The stamp of a file by its status."""
        return cls(status.st_size, status.st_mtime_ns)


_Headers = dict[str, tuple[FileStamp, ImageHeader]]


@dataclass(frozen=True, slots=True)
class ScannedImage:
    """An image file: the scanned folder, its path below that (with `/` between folders), its
    header, and how it is known again (None for what is more than one file).
    """

    root: Path
    name: str
    header: ImageHeader
    stamp: FileStamp | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return self.root / self.name

    @property
    def stem(self) -> str:
        """The name without its suffix, by which images are paired."""
        return _stem(self.name)

    @property
    def size(self) -> str:
        """For messages: width x height in pixels."""
        return f"{self.header.width}x{self.header.height}"


@dataclass(frozen=True, slots=True)
class ImagePair:
    """A GT image and the LQ image of the same stem."""

    gt: ScannedImage
    lq: ScannedImage


def as_roots(dataroot: str | Sequence[str]) -> list[Path]:
    """The folders of a `dataroot` option, which is one folder or a list of them.

    Raises:
        DataError: for an empty name, one that is too long, or the home of a user who does not
            exist.
    """
    roots: list[Path] = []
    for name in [dataroot] if isinstance(dataroot, str) else dataroot:
        try:
            root = Path(name).expanduser()
            # Asked for the error alone, which a name that no system takes raises.
            root.is_dir()
        except (RuntimeError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"dataroot '{name}': {reason}; name a folder of images") from error
        if not name.strip():
            raise DataError("a dataroot is an empty name; name a folder of images")
        roots.append(root)
    return roots


def scan_folder(root: Path, read: HeaderReader = read_header) -> list[ScannedImage]:
    """All images below `root`, sorted by relative path. Hidden files and folders are left out.

    Args:
        root: the folder.
        read: reads the header of a file that is not remembered.

    Raises:
        DataError: if the folder is missing, is a file or holds no image, or if any of its images is
            unusable.
    """
    problems = Problems()
    images, _ = scan_with_unusable(root, problems, read)
    problems.raise_if_any()
    return images


def scan_file(path: Path, problems: Problems) -> list[ScannedImage]:
    """A single image; none if it is unusable, which is added to `problems`."""
    try:
        # Stamped before it is read: a change in between is seen later, and not taken for known.
        stamp = FileStamp.of(path.stat())
        return [ScannedImage(path.parent, path.name, read_header(path), stamp)]
    except OSError as error:
        problems.add("unusable image", f"{path}: cannot be read: {error.strerror or error}")
    except DataError as error:
        problems.add("unusable image", str(error))
    return []


def scan_into(root: Path, problems: Problems) -> list[ScannedImage]:
    """As `scan_folder`, but what is wrong is added to `problems`."""
    return scan_with_unusable(root, problems)[0]


def scan_with_unusable(
    root: Path, problems: Problems, read: HeaderReader = read_header
) -> tuple[list[ScannedImage], set[str]]:
    """As `scan_into`: the usable images, and the stems of the unusable ones."""
    if not root.is_dir():
        _add_no_folder(root, problems)
        return [], set()
    files = sorted(_walk(str(root), "", (), problems))
    if not files:
        problems.add(
            f"no image in this folder (what is read: {', '.join(IMAGE_SUFFIXES)})",
            str(root.absolute()),
        )
        return [], set()
    headers = _headers(root, files, problems, read)
    images = [
        ScannedImage(root, name, headers[name], stamp) for name, stamp in files if name in headers
    ]
    # Their partners are not to be called images without a partner.
    unusable = {_stem(name) for name, _ in files if name not in headers}
    return images, unusable


def _headers(
    root: Path,
    files: Sequence[tuple[str, FileStamp]],
    problems: Problems,
    read: HeaderReader,
) -> dict[str, ImageHeader]:
    """The headers of the usable files by name: remembered, or read and remembered."""
    cache = cache_path(root)
    remembered = _load_cache(cache)
    headers: dict[str, ImageHeader] = {}
    for name, stamp in files:
        known_stamp, header = remembered.get(name, (None, None))
        if header is not None and known_stamp == stamp:
            headers[name] = header
    missing = [name for name, _ in files if name not in headers]
    with ThreadPoolExecutor(_THREADS) as pool:
        for chunk in pool.map(partial(_read_headers, str(root), read), _chunks(missing)):
            for name, result in chunk:
                if isinstance(result, DataError):
                    problems.add("unusable image", str(result))
                else:
                    headers[name] = result
    # Files that are gone are forgotten too.
    if missing or len(remembered) != len(files):
        usable = {name: (stamp, headers[name]) for name, stamp in files if name in headers}
        _save_cache(cache, usable)
    from_cache = len(files) - len(missing)
    log.debug("%s: %d images, %d headers from the cache", root, len(files), from_cache)
    return headers


def pair_folders(roots_gt: Sequence[Path], roots_lq: Sequence[Path], scale: int) -> list[ImagePair]:
    """Pairs of the images that have the same stem below the n-th GT folder and the n-th LQ folder,
    in order.

    Raises:
        DataError: naming every missing or empty folder, unusable image, image without partner,
            ambiguous name and pair whose sizes do not agree with `scale`.
    """
    if len(roots_gt) != len(roots_lq) or not roots_gt:
        raise DataError(
            f"dataroot_gt names {len(roots_gt)} folders and dataroot_lq {len(roots_lq)}: each GT "
            "folder needs its LQ folder at the same place of the list"
        )
    problems = Problems()
    pairs: list[ImagePair] = []
    for root_gt, root_lq in zip(roots_gt, roots_lq, strict=True):
        pairs += _pair_roots(root_gt, root_lq, problems)
    for pair in pairs:
        check_sizes(pair, scale, problems)
    problems.raise_if_any()
    return pairs


def _pair_roots(root_gt: Path, root_lq: Path, problems: Problems) -> list[ImagePair]:
    """The pairs of one GT folder and its LQ folder."""
    images_gt, unusable_gt = scan_with_unusable(root_gt, problems)
    images_lq, unusable_lq = scan_with_unusable(root_lq, problems)
    gt = _by_stem(images_gt, problems)
    lq = _by_stem(images_lq, problems)
    # An empty folder is a problem already; every image of the other one would be a second.
    if not gt or not lq:
        return []
    for stem in sorted(gt.keys() - lq.keys() - unusable_lq):
        kind = f"GT without an LQ image of the same name in {root_lq}"
        problems.add(kind, str(gt[stem].path))
    for stem in sorted(lq.keys() - gt.keys() - unusable_gt):
        kind = f"LQ without a GT image of the same name in {root_gt}"
        problems.add(kind, str(lq[stem].path))
    return [ImagePair(image, lq[stem]) for stem, image in gt.items() if stem in lq]


def _add_no_folder(root: Path, problems: Problems) -> None:
    path = root.absolute()
    if path.exists():
        problems.add(
            "a file is given where a folder of images is expected", f"{path}: give {path.parent}"
        )
        return
    parent = next(folder for folder in path.parents if folder.is_dir())
    problems.add(
        "the folder does not exist", f"{path} (the nearest folder that exists is {parent})"
    )


def _walk(
    root: str, below: str, ancestors: tuple[tuple[int, int], ...], problems: Problems
) -> Iterable[tuple[str, FileStamp]]:
    """(relative path, stamp) of the image files, following links but never in a circle."""
    folder = Path(root, below)
    try:
        status = folder.stat()
        # Device and inode are the same whatever name a folder is reached by.
        place = (status.st_dev, status.st_ino)
        if place in ancestors:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    yield from _walk(root, f"{below}{entry.name}/", (*ancestors, place), problems)
                elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                    yield from _stamp(entry, below, problems)
    except OSError as error:
        problems.add("a folder cannot be read", f"{folder}: {error.strerror or error}")


def _stamp(
    entry: os.DirEntry[str], below: str, problems: Problems
) -> Iterable[tuple[str, FileStamp]]:
    try:
        status = entry.stat()
    except OSError as error:
        # A link to nowhere.
        problems.add("unusable image", f"{entry.path}: cannot be read: {error.strerror or error}")
        return
    yield below + entry.name, FileStamp.of(status)


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _chunks(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK))


def _read_headers(
    root: str, read: HeaderReader, names: Sequence[str]
) -> list[tuple[str, ImageHeader | DataError]]:
    results: list[tuple[str, ImageHeader | DataError]] = []
    for name in names:
        try:
            results.append((name, read(f"{root}/{name}")))
        except DataError as error:
            results.append((name, error))
    return results


def _by_stem(images: list[ScannedImage], problems: Problems) -> dict[str, ScannedImage]:
    by_stem: dict[str, ScannedImage] = {}
    for image in images:
        if image.stem in by_stem:
            kind = "two images of one name in a folder; remove one"
            problems.add(kind, f"{by_stem[image.stem].path} and {image.name}")
        by_stem[image.stem] = image
    return by_stem


def check_sizes(pair: ImagePair, scale: int, problems: Problems) -> None:
    """Add a pair to `problems` if GT is not `scale` times as large as LQ, with the likely cause."""
    gt = pair.gt.header
    lq = pair.lq.header
    if gt.width == scale * lq.width and gt.height == scale * lq.height:
        return
    remedy = ""
    cause = _size_mismatch(gt, lq, scale)
    if cause.startswith("a few pixels"):
        width = min(lq.width, gt.width // scale)
        height = min(lq.height, gt.height // scale)
        remedy = f"; crop GT to {width * scale}x{height * scale}"
        if (width, height) != (lq.width, lq.height):
            remedy += f" and LQ to {width}x{height}"
    problems.add(
        f"GT is not {scale} x LQ: {cause}",
        f"{pair.gt.path} is {pair.gt.size}, {pair.lq.path} is {pair.lq.size}{remedy}",
    )


def _size_mismatch(gt: ImageHeader, lq: ImageHeader, scale: int) -> str:
    """The likely cause that the sizes do not agree with the scale."""
    if (gt.width, gt.height) == (lq.width, lq.height):
        return "they have the same size; was the same folder given twice, or should scale be 1?"
    if lq.width >= gt.width and lq.height >= gt.height:
        return "LQ is larger than GT; are dataroot_gt and dataroot_lq swapped?"
    ratio = gt.width // lq.width
    if ratio != scale and (gt.width, gt.height) == (ratio * lq.width, ratio * lq.height):
        return f"it looks like scale {ratio}"
    if (gt.height, gt.width) == (scale * lq.width, scale * lq.height):
        return "one of them lies on its side (rotated by 90 degrees)"
    # Less than two LQ pixels: more than rounding of the sides and of a border can explain.
    width_off = abs(gt.width - scale * lq.width)
    height_off = abs(gt.height - scale * lq.height)
    if max(width_off, height_off) < 2 * scale:
        return f"a few pixels are off; crop to a multiple of {scale}"
    return "are these different pictures?"


def _load_cache(path: Path | None) -> _Headers:
    """Relative path to stamp and header. Whatever is wrong with the cache, it is empty then."""
    if path is None or not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
        if content["version"] != _CACHE_VERSION:
            return {}
        return {name: _remembered(*numbers) for name, numbers in content["images"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.debug("the remembered headers in %s are ignored: %r", path, error)
        return {}


def _remembered(
    size: int, mtime_ns: int, width: int, height: int, channels: int, bits: int
) -> tuple[FileStamp, ImageHeader]:
    """An entry of the cache. `int` refuses what somebody else may have written there."""
    header = ImageHeader(int(width), int(height), int(channels), int(bits))
    return FileStamp(int(size), int(mtime_ns)), header


def _save_cache(path: Path | None, entries: _Headers) -> None:
    if path is None:
        return
    images = {name: (*stamp, *astuple(header)) for name, (stamp, header) in entries.items()}
    content = json.dumps({"version": _CACHE_VERSION, "images": images})
    try:
        # Names need not be valid text; they come back as they were.
        write_atomic(path, content.encode("utf-8", "surrogatepass"))
    except (DiskError, OSError) as error:
        log.debug("headers are not remembered: %s", error)
