"""The state file: what is in it, entry by entry, and how it is known to be whole.

A state is what torch.save makes of tensors and plain values, and behind that its checksum. It is
read without executing anything, and everything in it is checked before anything is loaded.

A part that saves something more needs no word here; what is named here is checked as well.
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from traiNNer.archs.seals import read_seal
from traiNNer.utils.errors import CheckpointError, OptionsError

# 2: parts by name. 3: with checksums. 4: the work done, and the length that the schedules are for.
FORMAT = 5
_TRAILER = re.compile(rb"traiNNer sha256 ([0-9a-f]{64})\n")
_TRAILER_BYTES = len("traiNNer sha256 \n") + 64
# A run of a million steps a second would reach it in 30 years; more is damage.
_MOST = 10**15
# Entries that a message names.
_NAMED = 3

_Count = Annotated[int, Field(ge=0, le=_MOST)]
_PartsOfOthers = dict[str, dict[str, Any]]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(allow_inf_nan=False, gt=0)]


class DamagedStateError(CheckpointError):
    """A checkpoint is not as it was written, so that one before it may be taken in its place."""


class _Entry(BaseModel):
    """Part of a state: every value is of the very type that is saved, and further ones may be
    there.
    """

    model_config = ConfigDict(strict=True, extra="allow", arbitrary_types_allowed=True)


class _OptimizerState(_Entry):
    state: dict[int, dict[str, Any]]
    param_groups: list[dict[str, Any]]


class _GuardState(_Entry):
    total: _Count
    in_a_row: _Count


class _PhaseState(_Entry):
    optimizer: _OptimizerState
    scheduler: dict[str, Any] | None
    scaler: dict[str, float]
    guard: _GuardState


class _LengthState(_Entry):
    model_config = ConfigDict(extra="forbid")

    key: Literal["total_iter", "total_samples", "total_mpixels", "total_hours"]
    total: _Positive
    step: _Positive


class _RecipeState(_Entry):
    iteration: _Count
    samples: _Count
    pixels: _Count
    seconds: Annotated[_Finite, Field(ge=0)]
    length: _LengthState
    place: _Count
    out_of_memory_total: _Count
    phases: dict[str, _PhaseState]
    averages: dict[str, _Count]


class _StreamState(_Entry):
    samples_consumed: _Count
    replaced_total: _Count
    samples_per_epoch: Annotated[int, Field(ge=1, le=_MOST)]
    seed: int
    order: dict[str, Any]


class _AutomationsState(_Entry):
    automations: dict[str, dict[str, Any]]
    wishes: dict[str, Any]
    decider: str


class _MemoryState(_Entry):
    automations: _AutomationsState
    history: list[dict[str, float]]
    moves: _Count


class _ValidationState(_Entry):
    is_due: bool


class _BestState(_Entry):
    model_config = ConfigDict(extra="forbid")

    metric: str
    value: _Finite
    iteration: _Count


class _CheckpointsState(_Entry):
    best: _BestState | None


class _RandomState(_Entry):
    python: tuple[int, tuple[int, ...], float | None]
    numpy: Annotated[list[Any], Field(min_length=5, max_length=5)]
    torch: Tensor
    cuda: list[Tensor]


class _PartsState(_Entry):
    """By the parts' names; those of a program's own are dictionaries of anything."""

    # pydantic's way to say of what type further entries are.
    __pydantic_extra__: _PartsOfOthers  # pyright: ignore[reportIncompatibleVariableOverride]

    recipe: _RecipeState
    stream: _StreamState
    random: _RandomState
    memory: _MemoryState | None = None
    validation: _ValidationState | None = None
    checkpoints: _CheckpointsState | None = None


class _SavedFile(_Entry):
    # A name and no path: a state cannot have other folders read.
    name: Annotated[str, Field(pattern=r"^[^/\\\x00]{1,250}\.safetensors$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Typed(_Entry):
    type: str


class _TrainOptions(_Entry):
    optim_g: _Typed | None
    scheduler: _Typed | None


class _SavedOptions(_Entry):
    train: _TrainOptions


class _State(_Entry):
    format: Literal[5]
    files: dict[str, _SavedFile]
    parts: _PartsState
    options: _SavedOptions


def require_readable(name: str, state: Any) -> None:
    """See that what a part wants saved can be saved, and read back without executing anything.

    Raises:
        OptionsError: naming the part, if not.
    """
    if not isinstance(state, Mapping):
        raise OptionsError(
            f"the part {name!r} gives {type(state).__name__} as its state, and a checkpoint keeps "
            "a dictionary of tensors and plain values"
        )
    for key, value in state.items():
        buffer = io.BytesIO()
        try:
            torch.save({key: value}, buffer)
            buffer.seek(0)
            torch.load(buffer, map_location="cpu", weights_only=True)
        # Whatever a part of a program's own puts there.
        except Exception as error:
            raise OptionsError(
                f"{key!r} in the state of the part {name!r} ({type(value).__name__}) could not be "
                "read back from a checkpoint; give tensors and plain values, for example float(x) "
                "in place of numpy's numbers and str(path) in place of a path"
            ) from error


def state_bytes(state: dict[str, Any]) -> bytes:
    """The state as its file holds it, checksum and all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    buffer.write(f"traiNNer sha256 {digest}\n".encode())
    return buffer.getvalue()


def read_state(path: Path) -> dict[str, Any]:
    """Read and check a state file without executing anything in it.

    Raises:
        DamagedStateError: if it is damaged or no state.
        CheckpointError: if it is one of another version.
    """
    content = _bytes_of(path)
    trailer = _TRAILER.fullmatch(content[-_TRAILER_BYTES:])
    body = memoryview(content)[:-_TRAILER_BYTES] if trailer else memoryview(content)
    if trailer is not None and hashlib.sha256(body).hexdigest() != trailer[1].decode():
        raise _damaged(path, "its checksum is another one")
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    # A reader may trip in any way over bytes that mean nothing.
    except Exception as error:
        raise DamagedStateError(
            f"{path} is damaged or no training state ({type(error).__name__}); delete it to go on "
            "from the one before, or name another with path.resume_state (weights go to "
            "path.pretrain_network_g)"
        ) from error
    number = state.get("format") if isinstance(state, dict) else None
    if type(number) is int and number != FORMAT:
        raise CheckpointError(
            f"{path} is a state of format {number}, and this version reads format {FORMAT}: go on "
            "with the version that wrote it, or start anew from its weights with "
            "path.pretrain_network_g"
        )
    if number is None:
        raise DamagedStateError(
            f"{path} is no training state of this program (weights go to path.pretrain_network_g)"
        )
    if trailer is None:
        raise _damaged(path, "its checksum is missing")
    _validate(path, state)
    return state


def verify_checkpoint(path: Path) -> None:
    """Read a state and all weights that belong to it, and load none of them.

    Raises:
        DamagedStateError: if one of the files is damaged or missing.
        CheckpointError: if the state is one of another version.
    """
    state = read_state(path)
    for saved in state["files"].values():
        require_intact(weights_path(path, saved), saved, path)


def weights_of(path: Path) -> list[str]:
    """The names of the files of weights that belong to the state at `path`, and no others: a user's
    own may end in the same number. An empty list where the state cannot be read.
    """
    try:
        state = read_state(path)
    except CheckpointError:
        return []
    return [saved["name"] for saved in state["files"].values()]


def weights_path(path: Path, saved: dict[str, Any]) -> Path:
    """Where a file of weights that the state at `path` names is."""
    return path.parent.parent / "models" / saved["name"]


def require_intact(file: Path, saved: dict[str, Any], path: Path) -> None:
    """See that a file of weights is the one that the state at `path` was saved with.

    Raises:
        DamagedStateError: if it is not.
    """
    problem = None
    if not file.exists():
        problem = "does not exist"
    elif not file.is_file():
        problem = "is no file"
    else:
        try:
            digest, right = read_seal(file)
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
        else:
            if not right:
                problem = "is damaged: its checksum is another one"
            elif digest != saved["sha256"]:
                problem = "is not the file that was saved with it"
    if problem is not None:
        raise DamagedStateError(
            f"cannot go on from {path}: {file} {problem}; delete {path} to go on from the "
            "checkpoint before it"
        )


def _bytes_of(path: Path) -> bytes:
    try:
        # A pipe would be waited for, for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise DamagedStateError(f"{path} is no file, so no training state; move it away")
        return path.read_bytes()
    except OSError as error:
        raise DamagedStateError(f"{path} cannot be read: {error.strerror or error}") from error


def _validate(path: Path, state: dict[str, Any]) -> None:
    try:
        _State.model_validate(state)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].lower()}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise _damaged(path, f"{'; '.join(problems[:_NAMED])}{more}") from error


def _damaged(path: Path, why: str) -> DamagedStateError:
    return DamagedStateError(
        f"{path} is damaged ({why}); delete it to go on from the one before, or name another with "
        "path.resume_state"
    )
