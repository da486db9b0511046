"""Where a run lives, and what happens when its name was used before."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from traiNNer.options.schema import PathOptions
from traiNNer.utils.errors import CheckpointError, DiskError
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
            raise DiskError(f"cannot make the run's folders in {self.root}: {error.strerror or error}") from error


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


def archive_old_run(folders: RunFolders, now: datetime) -> list[str]:
    """Move a former run of the same name aside. Nothing is deleted.

    Returns:
        One sentence for each folder that was moved.

    Raises:
        DiskError: if it cannot be moved.
    """
    said: list[str] = []
    for folder in (folders.root, folders.tensorboard):
        if not folder.exists():
            continue
        target = unused_path(folder.with_name(f"{folder.name}_archived_{now:%Y%m%d_%H%M%S}"))
        try:
            folder.rename(target)
        except OSError as error:
            raise DiskError(f"cannot move the former run {folder} to {target}: {error.strerror or error}") from error
        said.append(f"{folder} held a former run: moved to {target} (--auto_resume goes on with it instead)")
    return said
