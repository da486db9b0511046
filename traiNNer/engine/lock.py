"""One process for each run: the lock of a run's name."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from traiNNer.utils.errors import DiskError, OptionsError

log = logging.getLogger(__name__)
# How a system says that somebody else has the lock.
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
# A lock file that its holder deletes in the very moment in which it is opened is opened anew. More
# often than a few times in a row that does not happen.
_TRIES = 20


def lock_path(root: Path) -> Path:
    """The file that is locked: beside the run's folder and not in it, so that it stays where it is
    when the folder is moved aside.
    """
    return root.with_name(f".{root.name}.lock")


# A run that has just been told to end takes a moment to do so, and is often started again at once.
PATIENCE_S = 2.0
# Small against that, and no load for the system.
_LOOK_EVERY_S = 0.05


@contextmanager
def claimed(root: Path, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold a run's folder, which need not exist, against every other process.

    It has to be taken before anything is decided by what lies in the folder. The system lets go of
    it when this process ends, however it ends; the empty file may stay then, and means nothing.

    Args:
        root: the run's folder.
        patience_s: how long another process is waited for that may be about to end.

    Raises:
        OptionsError: if another process holds it.
        DiskError: if there can be no file beside the run's folder.
    """
    path = lock_path(root)
    is_new = not path.parent.exists()
    file = _open_locked(path, root, time.monotonic() + patience_s)
    try:
        yield
    finally:
        _let_go(file, path)
        if is_new:
            # A run that was refused before it wrote anything leaves nothing behind.
            with contextlib.suppress(OSError):
                path.parent.rmdir()


def _open_locked(path: Path, root: Path, deadline: float) -> IO[bytes]:
    for _ in range(_TRIES):
        file = _open(path, root)
        while not _lock(file):
            if time.monotonic() >= deadline:
                file.close()
                raise OptionsError(
                    f"another process trains in {root}; wait for its end, or choose another --name"
                )
            time.sleep(_LOOK_EVERY_S)
        if _is_still(file, path):
            return file
        file.close()
    raise DiskError(f"cannot lock {path}: it vanishes again and again; start again")


def _open(path: Path, root: Path) -> IO[bytes]:
    for _ in range(_TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("a+b")
        except FileNotFoundError:
            # The folder went away between the two lines, as one does that was made for a lock.
            continue
        except OSError as error:
            raise DiskError(
                f"cannot make the run's folders in {root}: {error.strerror or error} ({path}); "
                "choose another folder with path.experiments_root"
            ) from error
    raise DiskError(f"cannot make {path}: its folder vanishes again and again; start again")


def _lock(file: IO[bytes]) -> bool:
    """Whether the file is locked now; also where the system has no locks, which is said."""
    try:
        _lock_descriptor(file.fileno())
    except OSError as error:
        if error.errno in _HELD:
            return False
        log.warning(
            "cannot lock %s: %s; do not start a second run of this name", file.name, error.strerror
        )
    return True


def _lock_descriptor(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        # Not flock, whose lock the reading processes inherit: they would hold it for a moment
        # longer than a run that was killed.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_still(file: IO[bytes], path: Path) -> bool:
    """Whether the file that was locked is the one of that name, and not one deleted since."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _let_go(file: IO[bytes], path: Path) -> None:
    if sys.platform == "win32":
        # There an open file cannot be deleted, and one that another process has opened neither.
        file.close()
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    file.close()
