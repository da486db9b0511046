"""The folders below a root, without what systems and storage devices put there; and what of their
files is no data.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from traiNNer.utils.names import visible
from traiNNer.utils.problems import Problems

# What storage devices, systems and archive programs put beside the user's files, in lower case.
# Names that begin with a dot (.DS_Store, .AppleDouble, ._a.png) are left out anyway.
SYSTEM_NAMES = frozenset(
    (
        "@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "#recycle", "#snapshot",
        "__macosx", "lost+found", "$recycle.bin", "recycler", "recycled",
        "system volume information", "network trash folder", "temporary items",
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r",
    )
)  # fmt: skip
CANNOT_BE_READ = "a folder cannot be read"
# Kinds of files in a summary, which is one line.
_MOST_KINDS = 6
# A longer end of a name is no suffix that anybody would know.
_LONGEST_SUFFIX = 10


@dataclass
class LeftOut:
    """Counts the files that are no data, by suffix, so that nothing is left out in silence."""

    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, name: str) -> None:
        """Count a file."""
        suffix = Path(name).suffix.lower()
        is_known = 1 < len(suffix) <= _LONGEST_SUFFIX
        self.kinds[visible(suffix) if is_known else "without a suffix"] += 1

    def add_circle(self) -> None:
        """Count a link to a folder that the link itself lies in."""
        self.kinds["linked into itself"] += 1

    def describe(self) -> list[str]:
        """For a summary: nothing, or for example `left out: 3 .gif, 1 .psd`."""
        if not self.kinds:
            return []
        # The most frequent first, and in one order whatever that of the disk is.
        ordered = sorted(self.kinds.items(), key=lambda item: (-item[1], item[0]))
        common = ordered[:_MOST_KINDS]
        parts = [f"{count} {kind}" for kind, count in common]
        others = self.kinds.total() - sum(count for _, count in common)
        if others:
            parts.append(f"{others} others")
        return [f"left out: {', '.join(parts)}"]


@dataclass(frozen=True)
class Folder:
    """A folder's files and folders, without hidden ones and those of the system.

    Attributes:
        below: its path below the root, empty or ending with `/`.
        files: in order of their names.
        folders: the names, in order.
    """

    below: str
    files: list[os.DirEntry[str]]
    folders: list[str]


def walk(root: Path, problems: Problems, left_out: LeftOut) -> Iterator[Folder]:
    """All folders from `root` down, following links but never in a circle. Those that cannot be
    read are added to `problems`.
    """
    # A list and not a recursion: paths may be deeper than Python's calls.
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    while waiting:
        below, ancestors = waiting.pop()
        path = root / below
        try:
            status = path.stat()
            # Device and inode are the same whatever name a folder is reached by.
            place = (status.st_dev, status.st_ino)
            if place in ancestors:
                left_out.add_circle()
                continue
            folder = _read(path, below)
        except OSError as error:
            problems.add(CANNOT_BE_READ, f"{path}: {error.strerror or error}")
            continue
        yield folder
        waiting += [(f"{below}{name}/", (*ancestors, place)) for name in reversed(folder.folders)]


def _read(path: Path, below: str) -> Folder:
    with os.scandir(path) as entries:
        visible_entries = [entry for entry in entries if _is_data(entry.name)]
    visible_entries.sort(key=lambda entry: entry.name)
    files: list[os.DirEntry[str]] = []
    folders: list[str] = []
    for entry in visible_entries:
        if _is_folder(entry):
            folders.append(entry.name)
        else:
            files.append(entry)
    return Folder(below, files, folders)


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in SYSTEM_NAMES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link in a circle of links. Whoever reads it as a file says so.
        return False
