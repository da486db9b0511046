"""Putting a data set that is whole in its place, without touching what is there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from traiNNer.utils.errors import DiskError


def is_complete(root: Path, targets: Iterable[Path]) -> bool:
    """Whether all files are there, by their paths below `root`."""
    return all((root / target).is_file() for target in targets)


def place_files(
    staged: Path, root: Path, targets: Iterable[Path], *, overwrite: bool = False
) -> None:
    """Move the files of a folder to `root`, on the same disk.

    Args:
        staged: the folder that holds them; empty or gone afterwards.
        root: where they belong.
        targets: their paths below both.
        overwrite: replace the files that are there already; else they stay.

    Raises:
        DiskError: if that fails.
    """
    try:
        # The whole folder at once where possible: then nobody ever sees a part of it.
        if not root.exists():
            staged.rename(root)
            return
        for target in targets:
            (root / target).parent.mkdir(parents=True, exist_ok=True)
            # A file of the user's stays, even one that was changed.
            if overwrite or not (root / target).exists():
                (staged / target).replace(root / target)
    except OSError as error:
        raise DiskError(
            f"cannot make the demo's data in {root.absolute()}: {error.strerror or error}"
        ) from error
