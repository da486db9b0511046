"""Files that are whole or absent, never half written."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from traiNNer.utils.errors import DiskError
from traiNNer.utils.names import temporary_prefix


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


def at_home(name: str) -> str:
    """A path as a user writes it, with `~` and variables such as `$HOME` in place of what they
    stand for. Variables that are not set stay.

    Raises:
        ValueError: for the home of a user who does not exist.
    """
    try:
        return str(Path(os.path.expandvars(name)).expanduser()) if name.strip() else name
    except RuntimeError as error:
        raise ValueError(f"{name}: {error}") from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that after a crash, a kill or a full disk the old content or the
    new one is there.

    A temporary file in the same folder is written, flushed to the disk (fsync) and renamed over
    `path`.

    Raises:
        DiskError: if writing fails; the temporary file is removed and `path` is untouched.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, because only within a file system is renaming one step.
        prefix = f"{temporary_prefix(path.name)}."
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".tmp")
        temporary = Path(name)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # Temporary files are for their owner alone; this one is to have the rights of any other.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise DiskError(
            f"cannot write {path} ({len(data) / 2**20:.1f} MiB): {error.strerror or error}. "
            f"What was saved before is untouched; {_remedy(error)}, then start again (train.py "
            "with --auto_resume)."
        ) from error


def _remedy(error: OSError) -> str:
    if error.errno == errno.ENAMETOOLONG:
        return "choose a shorter name"
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return "move what has this name out of the way"
    if error.errno in (errno.EILSEQ, errno.EINVAL):
        return "choose another name: this file system does not take it"
    return "make room or choose another folder"


def _umask() -> int:
    # There is no way to ask for the mask but to set another one.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def unused_path(path: Path) -> Path:
    """`path`, or `path_2`, `path_3`, ... : the first that does not exist."""
    candidate = path
    number = 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}_{number}")
    return candidate
