"""Finding images in folders. Only headers are read, and what was read is remembered.

Everything that is wrong is collected and raised as one `DataError`, because a data set is fixed
faster when all of its problems are known.
"""

from __future__ import annotations

import gc
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from traiNNer.data.header_cache import load_headers, save_headers
from traiNNer.data.walk import CANNOT_BE_READ, LeftOut, walk
from traiNNer.utils.errors import DataError
from traiNNer.utils.files import FileStamp, at_home
from traiNNer.utils.images import IMAGE_SUFFIXES, ImageHeader, read_header
from traiNNer.utils.problems import Problems
from traiNNer.utils.scan_cache import cache_path

log = logging.getLogger(__name__)

# Threads overlap the waiting for a cold disk; more of them only fight for the interpreter.
_THREADS = 4
# Files that a thread is given at once: handing out single ones costs as much as reading a header.
_CHUNK = 256
_UNUSABLE = "unusable image"
# What concerns single files and not the set as a whole, so that the rest can be used without them.
OF_SINGLE_FILES = (_UNUSABLE, "unusable video", CANNOT_BE_READ)

HeaderReader = Callable[[str], ImageHeader]


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
    def images(self) -> tuple[ScannedImage, ...]:
        """Itself, as an element of a dataset."""
        return (self,)

    @property
    def stem(self) -> str:
        """The name without its suffix, by which images are paired."""
        return _stem(self.name)

    @property
    def size(self) -> str:
        """For messages: width x height in pixels."""
        return f"{self.header.width}x{self.header.height}"


@contextmanager
def without_collection() -> Iterator[None]:
    """Python does not look for circles of objects meanwhile: a scan makes hundreds of thousands of
    objects and no circle, and looking at all of them time and again took a third of it.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def as_roots(dataroot: str | Sequence[str]) -> list[Path]:
    """The folders of a `dataroot` option, which is one folder or a list of them.

    Raises:
        DataError: for an empty name, one that is too long, or the home of a user who does not
            exist.
    """
    roots: list[Path] = []
    for name in [dataroot] if isinstance(dataroot, str) else dataroot:
        try:
            root = Path(at_home(name))
            # Asked for the error alone, which a name that no system takes raises.
            root.is_dir()
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"dataroot '{name}': {reason}; name a folder of images") from error
        if not name.strip():
            raise DataError("a dataroot is an empty name; name a folder of images")
        roots.append(root)
    return roots


def without_repeats(roots: Sequence[Path]) -> list[Path]:
    """The folders or files, each once; what is named twice is said."""
    once: dict[Path, Path] = {}
    for root in roots:
        # As it is and not as it is named: `in` and `./in` are one folder.
        if once.setdefault(_resolved(root), root) is not root:
            log.warning("%s is named twice; it is read once", root)
    return list(once.values())


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        # A circle of links, for which the scan has the words.
        return path.absolute()


def scan_folder(root: Path, read: HeaderReader = read_header) -> list[ScannedImage]:
    """All images below `root`, sorted by relative path. Hidden files and folders are left out, and
    those that systems make (see `traiNNer/data/walk.py`).

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
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            problems.add(_UNUSABLE, _not_a_file(path))
            return []
        stamp = FileStamp.of(status)
        return [ScannedImage(path.parent, path.name, read_header(path), stamp)]
    except OSError as error:
        problems.add(_UNUSABLE, f"{path}: cannot be read: {error.strerror or error}")
    except DataError as error:
        problems.add(_UNUSABLE, str(error))
    return []


def scan_into(root: Path, problems: Problems, left_out: LeftOut) -> list[ScannedImage]:
    """As `scan_folder`, but what is wrong is added to `problems`, and the files that are no images
    to `left_out`.
    """
    return scan_with_unusable(root, problems, left_out=left_out)[0]


@without_collection()
def scan_with_unusable(
    root: Path,
    problems: Problems,
    read: HeaderReader = read_header,
    left_out: LeftOut | None = None,
) -> tuple[list[ScannedImage], set[str]]:
    """As `scan_into`: the usable images, and the stems of the unusable ones."""
    if not root.is_dir():
        _add_no_folder(root, problems)
        return [], set()
    others = LeftOut()
    files = sorted(_find_images(root, problems, others))
    if left_out is not None:
        left_out.kinds.update(others.kinds)
    if not files:
        problems.add(
            f"no image in this folder (what is read: {', '.join(IMAGE_SUFFIXES)})",
            ", ".join([str(root.absolute()), *others.describe()]),
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
    remembered = load_headers(cache)
    headers: dict[str, ImageHeader] = {}
    for name, stamp in files:
        known_stamp, header = remembered.get(name, (None, None))
        if header is not None and known_stamp == stamp:
            headers[name] = header
    missing = [name for name, _ in files if name not in headers]
    # Most files of a folder are alike: one header for all of them.
    once = {header: header for header in headers.values()}
    with ThreadPoolExecutor(_THREADS) as pool:
        for chunk in pool.map(partial(_read_headers, str(root), read), _chunks(missing)):
            for name, result in chunk:
                if isinstance(result, DataError):
                    problems.add(_UNUSABLE, str(result))
                else:
                    headers[name] = once.setdefault(result, result)
    # Files that are gone are forgotten too.
    if missing or len(remembered) != len(files):
        usable = {name: (stamp, headers[name]) for name, stamp in files if name in headers}
        save_headers(cache, usable)
    from_cache = len(files) - len(missing)
    log.debug("%s: %d images, %d headers from the cache", root, len(files), from_cache)
    return headers


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


def _find_images(
    root: Path, problems: Problems, left_out: LeftOut
) -> Iterable[tuple[str, FileStamp]]:
    """(relative path, stamp) of the image files; the other files are counted."""
    for folder in walk(root, problems, left_out):
        for entry in folder.files:
            if entry.name.lower().endswith(IMAGE_SUFFIXES):
                yield from _stamp(entry, folder.below, problems)
            else:
                left_out.add(entry.name)


def _stamp(
    entry: os.DirEntry[str], below: str, problems: Problems
) -> Iterable[tuple[str, FileStamp]]:
    try:
        status = entry.stat()
    except OSError as error:
        # A link to nowhere.
        problems.add(_UNUSABLE, f"{entry.path}: cannot be read: {error.strerror or error}")
        return
    if not stat.S_ISREG(status.st_mode):
        problems.add(_UNUSABLE, _not_a_file(entry.path))
        return
    yield below + entry.name, FileStamp.of(status)


def _not_a_file(path: Path | str) -> str:
    """For messages. To open a pipe would wait for somebody who writes into it."""
    return f"{path}: a pipe, a socket or a device, and no file; delete it"


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
