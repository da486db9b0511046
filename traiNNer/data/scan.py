"""Finding images in folders and pairing GT with LQ. Only headers are read, and what was read is
remembered.

Everything that is wrong is collected and raised as one `DataError`, because a data set is fixed
faster when all of its problems are known.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

from traiNNer.utils.errors import DataError, DiskError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.images import IMAGE_SUFFIXES, ImageHeader, read_header

log = logging.getLogger(__name__)

_CACHE_VERSION = 1
# Threads overlap the waiting for a cold disk; more of them only fight for the interpreter.
_THREADS = 4
_CHUNK = 256
_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class ScannedImage:
    """An image file: the scanned folder, its path below that (with `/` between folders), and its
    header.
    """

    root: Path
    name: str
    header: ImageHeader

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


@dataclass
class Problems:
    """Collects what is wrong, by kind, for one error at the end. `what` cannot be used: the images,
    the scenes.
    """

    kinds: dict[str, list[str]] = field(default_factory=dict)
    what: str = "images"

    def add(self, kind: str, example: str) -> None:
        """Note one more `example` (a file or a folder) of a `kind` (a sentence about all of
        them).
        """
        self.kinds.setdefault(kind, []).append(example)

    def raise_if_any(self) -> None:
        """Raise what was collected, if anything was.

        Raises:
            DataError: as `error` makes it.
        """
        if self.kinds:
            raise self.error()

    def error(self) -> DataError:
        """An error that names up to ten examples of each kind, and how many there are."""
        lines = [f"the {self.what} cannot be used:"]
        for kind, examples in self.kinds.items():
            lines.append(f"- {kind}" + (f" ({len(examples)} times):" if len(examples) > 1 else ":"))
            lines += [f"    {example}" for example in examples[:_EXAMPLES]]
            if len(examples) > _EXAMPLES:
                lines.append(f"    ... and {len(examples) - _EXAMPLES} more")
        return DataError("\n".join(lines))


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
            root.is_dir()
        except (RuntimeError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"dataroot '{name}': {reason}; name a folder of images") from error
        if not name.strip():
            raise DataError("a dataroot is an empty name; name a folder of images")
        roots.append(root)
    return roots


def scan_folder(root: Path) -> list[ScannedImage]:
    """All images below `root`, sorted by relative path. Hidden files and folders are left out.

    Raises:
        DataError: if the folder is missing, is a file or holds no image, or if any of its images is
            unusable.
    """
    problems = Problems()
    images = scan_into(root, problems)
    problems.raise_if_any()
    return images


def scan_into(root: Path, problems: Problems) -> list[ScannedImage]:
    """As `scan_folder`, but what is wrong is added to `problems`."""
    return scan_with_unusable(root, problems)[0]


def scan_with_unusable(root: Path, problems: Problems) -> tuple[list[ScannedImage], set[str]]:
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
    cache = cache_path(root)
    known = _load_cache(cache)
    headers = {
        name: known[name][1] for name, stamp in files if name in known and known[name][0] == stamp
    }
    missing = [name for name, _ in files if name not in headers]
    with ThreadPoolExecutor(_THREADS) as pool:
        for chunk in pool.map(_read_headers, repeat(str(root)), _chunks(missing)):
            for name, result in chunk:
                if isinstance(result, DataError):
                    problems.add("unusable image", str(result))
                else:
                    headers[name] = result
    if missing or len(known) != len(files):
        _save_cache(
            cache, {name: (stamp, headers[name]) for name, stamp in files if name in headers}
        )
    log.debug(
        "%s: %d images, %d headers from the cache", root, len(files), len(files) - len(missing)
    )
    usable = [name for name, _ in files if name in headers]
    images = [ScannedImage(root, name, headers[name]) for name in usable]
    return images, {_stem(name) for name, _ in files if name not in headers}


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
        images_gt, unusable_gt = scan_with_unusable(root_gt, problems)
        images_lq, unusable_lq = scan_with_unusable(root_lq, problems)
        gt, lq = _by_stem(images_gt, problems), _by_stem(images_lq, problems)
        if not gt or not lq:
            continue
        for stem in sorted(gt.keys() - lq.keys() - unusable_lq):
            problems.add(
                f"GT without an LQ image of the same name in {root_lq}", str(gt[stem].path)
            )
        for stem in sorted(lq.keys() - gt.keys() - unusable_gt):
            problems.add(f"LQ without a GT image of the same name in {root_gt}", str(lq[stem].path))
        found = [ImagePair(image, lq[stem]) for stem, image in gt.items() if stem in lq]
        for pair in found:
            check_sizes(pair, scale, problems)
        pairs += found
    problems.raise_if_any()
    return pairs


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
) -> Iterable[tuple[str, tuple[int, int]]]:
    """(relative path, (size in bytes, mtime in ns)) of the image files, following links but never
    in a circle.
    """
    folder = Path(root, below)
    try:
        status = folder.stat()
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
) -> Iterable[tuple[str, tuple[int, int]]]:
    try:
        status = entry.stat()
    except OSError as error:  # a link to nowhere
        problems.add("unusable image", f"{entry.path}: cannot be read: {error.strerror or error}")
        return
    yield below + entry.name, (status.st_size, status.st_mtime_ns)


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _chunks(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK))


def _read_headers(root: str, names: Sequence[str]) -> list[tuple[str, ImageHeader | DataError]]:
    results: list[tuple[str, ImageHeader | DataError]] = []
    for name in names:
        try:
            results.append((name, read_header(f"{root}/{name}")))
        except DataError as error:
            results.append((name, error))
    return results


def _by_stem(images: list[ScannedImage], problems: Problems) -> dict[str, ScannedImage]:
    found: dict[str, ScannedImage] = {}
    for image in images:
        if image.stem in found:
            other = found[image.stem].path
            problems.add(
                "two images of one name in a folder; remove one", f"{other} and {image.name}"
            )
        found[image.stem] = image
    return found


def check_sizes(pair: ImagePair, scale: int, problems: Problems) -> None:
    """Add a pair to `problems` if GT is not `scale` times as large as LQ, with the likely cause."""
    gt, lq = pair.gt.header, pair.lq.header
    if gt.width == scale * lq.width and gt.height == scale * lq.height:
        return
    remedy = ""
    cause = _size_mismatch(gt, lq, scale)
    if cause.startswith("a few pixels"):
        width, height = min(lq.width, gt.width // scale), min(lq.height, gt.height // scale)
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
    if (
        abs(gt.width - scale * lq.width) < 2 * scale
        and abs(gt.height - scale * lq.height) < 2 * scale
    ):
        return f"a few pixels are off; crop to a multiple of {scale}"
    return "are these different pictures?"


def cache_path(root: Path) -> Path | None:
    """Where the headers of a folder or of a video are remembered, in the user's cache folder; None
    without a home.
    """
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    try:
        base = Path(os.environ.get(variable) or Path.home() / ".cache")
        key = hashlib.blake2b(
            str(root.resolve()).encode("utf-8", "surrogateescape"), digest_size=16
        ).hexdigest()
    except (RuntimeError, OSError) as error:
        log.debug("headers are not remembered: %s", error)
        return None
    return base / "traiNNer" / "scan" / f"{key}.json"


def _load_cache(path: Path | None) -> dict[str, tuple[tuple[int, int], ImageHeader]]:
    """Relative path to (size in bytes, mtime in ns) and header. Whatever is wrong with the cache,
    it is empty then.
    """
    if path is None or not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
        if content["version"] != _CACHE_VERSION:
            return {}
        return {
            name: (
                (int(size), int(mtime)),
                ImageHeader(int(width), int(height), int(channels), int(bits)),
            )
            for name, (size, mtime, width, height, channels, bits) in content["images"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.debug("the remembered headers in %s are ignored: %r", path, error)
        return {}


def _save_cache(path: Path | None, entries: dict[str, tuple[tuple[int, int], ImageHeader]]) -> None:
    if path is None:
        return
    images = {
        name: (*stamp, h.width, h.height, h.channels, h.bits)
        for name, (stamp, h) in entries.items()
    }
    content = json.dumps({"version": _CACHE_VERSION, "images": images})
    try:
        write_atomic(path, content.encode("utf-8", "surrogatepass"))
    except (DiskError, OSError) as error:
        log.debug("headers are not remembered: %s", error)
