"""Where a run lives, and what happens when its name was used before."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from traiNNer.engine.saved_state import DamagedStateError, verify_checkpoint, weights_of
from traiNNer.options.schema import PathOptions
from traiNNer.utils.errors import CheckpointError, DiskError, OptionsError
from traiNNer.utils.files import unused_path

log = logging.getLogger(__name__)
# No isdigit, which is true of superscripts; no number of iterations has more digits.
_STATE = re.compile(r"[0-9]{1,18}\.state")
# Files that write_atomic had not yet moved to their place.
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")


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


def saved_states(folders: RunFolders) -> list[Path]:
    """The run's states, the newest last."""
    states = [path for path in folders.states.glob("*.state") if _STATE.fullmatch(path.name)]
    return sorted(states, key=lambda path: int(path.stem))


def find_resume_state(
    folders: RunFolders, path: PathOptions, *, auto_resume: bool, check: bool = False
) -> Path | None:
    """The state to go on from, None to start anew.

    Args:
        folders: of the run.
        path: may name a state.
        auto_resume: without a name, take the newest checkpoint that is whole.
        check: one that is not is an error, and not only said.

    Raises:
        CheckpointError: if the state that the options name does not exist, or there are states and
            none of them is whole.
    """
    if path.resume_state is not None:
        state = Path(path.resume_state)
        if not state.is_file():
            states = saved_states(folders)
            hint = f"; the newest of this run is {states[-1]}" if states else ""
            raise CheckpointError(f"path.resume_state: there is no file {state}{hint}")
        return state
    return _newest_whole_state(folders, check=check) if auto_resume else None


def _newest_whole_state(folders: RunFolders, *, check: bool) -> Path | None:
    damages: list[str] = []
    for state in reversed(saved_states(folders)):
        try:
            verify_checkpoint(state)
        except DamagedStateError as error:
            damages.append(str(error))
            continue
        if damages and check:
            raise CheckpointError("\n".join([*damages, f"A training would go on from {state}."]))
        for damage in damages:
            log.warning("%s. Goes on from %s, the one before.", damage, state)
        return state
    if damages:
        raise CheckpointError(
            "\n".join([*damages, f"{folders.root} holds no checkpoint that is whole."])
        )
    return None


def set_aside_later_states(folders: RunFolders, resume_from: Path) -> list[str]:
    """Rename the states after `resume_from`, so that neither --auto_resume nor the tidying takes
    them for newer ones.

    Returns:
        One sentence for each.

    Raises:
        DiskError: if one cannot be renamed.
    """
    notes: list[str] = []
    if not _STATE.fullmatch(resume_from.name):
        return notes
    for state in saved_states(folders):
        if int(state.stem) > int(resume_from.stem):
            # The run that goes on will write weights of these names itself.
            weights = [folders.models / name for name in weights_of(state)]
            target = _set_aside(state)
            for file in filter(Path.exists, weights):
                _set_aside(file)
            notes.append(
                f"{state} is later than {resume_from.name}, where this run goes on: kept as "
                f"{target.name}, and its weights so too"
            )
    return notes


def _set_aside(path: Path) -> Path:
    """Rename `path` to what nothing reads; to what."""
    target = unused_path(path.with_name(f"{path.name}.left"))
    _rename(path, target)
    return target


def _rename(path: Path, target: Path) -> None:
    try:
        path.rename(target)
    except OSError as error:
        raise DiskError(f"cannot rename {path} to {target}: {error.strerror or error}") from error


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
        # A link stays, and so does the disk that it leads to.
        real = folder.resolve() if folder.is_symlink() else folder
        target = unused_path(real.with_name(f"{real.name}_archived_{now:%Y%m%d_%H%M%S}"))
        _rename(real, target)
        if folder.is_symlink():
            real.mkdir()
        notes.append(
            f"{folder} held a former run: moved to {target} (--auto_resume would have gone on with "
            "it)"
        )
    return notes


def tidy(folders: RunFolders) -> None:
    """Delete the hidden files that a kill in the middle of writing has left. Only whoever holds the
    run may do that.
    """
    for path in folders.root.rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()
                log.info("deleted %s, which a kill had left half written", path)
