"""Where a run lives, and what happens when its name was used before."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from traiNNer.options.schema import PathOptions
from traiNNer.utils.errors import CheckpointError, DiskError, OptionsError
from traiNNer.utils.files import unused_path

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolders:
    """The folders of one run."""

    root: Path
    tensorboard: Path

    @classmethod
    def of(cls, name: str, path: PathOptions) -> RunFolders:
        """The folders that a run of this name has."""
        return cls(Path(path.experiments_root) / name, Path(path.tb_root) / name)

    @property
    def models(self) -> Path:
        """Weights."""
        return self.root / "models"

    @property
    def states(self) -> Path:
        """What else is needed to go on exactly."""
        return self.root / "training_states"

    @property
    def log(self) -> Path:
        """Log files."""
        return self.root / "log"

    @property
    def visualization(self) -> Path:
        """Pictures."""
        return self.root / "visualization"

    def create(self) -> None:
        """Make them all.

        Raises:
            DiskError: if that is not possible.
        """
        try:
            for folder in (self.models, self.states, self.log, self.visualization):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskError(
                f"cannot make the run's folders in {self.root}: {error.strerror or error}; choose "
                "another folder with path.experiments_root"
            ) from error


@contextmanager
def claimed(folders: RunFolders) -> Iterator[None]:
    """Hold the run's folder against a second process. The system lets go of it when this one ends,
    however it ends.

    Raises:
        OptionsError: if another process trains in it.
    """
    with (folders.root / ".lock").open("a+b") as file:
        try:
            _lock(file.fileno())
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise OptionsError(
                    f"another process trains in {folders.root}; wait for its end, or choose "
                    "another --name"
                ) from error
            log.warning(
                "cannot lock %s: %s; do not start a second run of this name",
                file.name,
                error.strerror,
            )
        yield


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(
            descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB
        )  # unlike flock, workers do not inherit it


def refuse_running(folders: RunFolders) -> None:
    """See that no other process trains in the run's folder, before anything in it is moved.

    Raises:
        OptionsError: if one does.
    """
    if (folders.root / ".lock").exists():
        with claimed(folders):
            pass


def newest_state(folders: RunFolders) -> Path | None:
    """The state of the highest iteration, None where there is none."""
    states = [p for p in folders.states.glob("*.state") if p.stem.isdigit()]
    return max(states, key=lambda p: int(p.stem), default=None)


def find_resume_state(folders: RunFolders, path: PathOptions, *, auto_resume: bool) -> Path | None:
    """The state to go on from, None to start anew.

    Raises:
        CheckpointError: if the state that the options name does not exist.
    """
    if path.resume_state is not None:
        state = Path(path.resume_state)
        if not state.is_file():
            newest = newest_state(folders)
            hint = f"; the newest of this run is {newest}" if newest else ""
            raise CheckpointError(f"path.resume_state: there is no file {state}{hint}")
        return state
    return newest_state(folders) if auto_resume else None


def set_aside_later_states(folders: RunFolders, resume_from: Path) -> list[str]:
    """Rename the states after `resume_from`, so that neither --auto_resume nor the tidying takes
    them for newer ones.

    Returns:
        One sentence for each.

    Raises:
        DiskError: if one cannot be renamed.
    """
    notes: list[str] = []
    for state in folders.states.glob("*.state"):
        if (
            state.stem.isdigit()
            and resume_from.stem.isdigit()
            and int(state.stem) > int(resume_from.stem)
        ):
            target = unused_path(state.with_name(f"{state.name}.left"))
            try:
                state.rename(target)
            except OSError as error:
                raise DiskError(
                    f"cannot rename {state} to {target}: {error.strerror or error}"
                ) from error
            notes.append(
                f"{state} is later than {resume_from.name}, where this run goes on: kept as "
                f"{target.name}"
            )
    return notes


def archive_old_run(folders: RunFolders, now: datetime, in_use: Iterable[Path]) -> list[str]:
    """Move a former run of the same name aside. Nothing is deleted.

    Args:
        folders: of the run.
        now: goes into the new name.
        in_use: files and folders that the new run reads.

    Returns:
        One sentence for each folder that was moved.

    Raises:
        DiskError: if it cannot be moved.
        OptionsError: if what the new run reads is in it.
    """
    for path in in_use:
        if folders.root.exists() and path.resolve().is_relative_to(folders.root.resolve()):
            raise OptionsError(
                f"{path} is inside {folders.root}, which a new run of this name moves aside; move "
                "the data, or choose another --name, or go on with the former run with "
                "--auto_resume"
            )
    notes: list[str] = []
    for folder in (folders.root, folders.tensorboard):
        if not folder.exists():
            continue
        target = unused_path(folder.with_name(f"{folder.name}_archived_{now:%Y%m%d_%H%M%S}"))
        try:
            folder.rename(target)
        except OSError as error:
            raise DiskError(
                f"cannot move the former run {folder} to {target}: {error.strerror or error}"
            ) from error
        notes.append(
            f"{folder} held a former run: moved to {target} (--auto_resume would have gone on with "
            "it)"
        )
    return notes
