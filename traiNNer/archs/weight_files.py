"""Weights in files: reading them without running what is in them."""

from __future__ import annotations

import errno
import pickle
import pickletools
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from traiNNer.archs.seals import read_seal
from traiNNer.archs.weight_sets import guess
from traiNNer.utils.errors import CheckpointError

_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
# Names that a message gives as examples of what a file holds.
_NAMED_KEYS = 3
# Bytes by which a text is told from a checkpoint.
_BEGINNING = 256
# What a server sends in place of the file: a page, a pointer of Git LFS, an error of an API.
_DOWNLOADS = (b"<", b"version https://git-lfs", b'{"error')
# What torch's restricted reader says of a pickle that would call something, rather than of a broken
# one.
_NEEDS_CODE = re.compile(
    r"Unsupported (global|class)|GLOBAL|unrecognized function|not an allowed|instantiate", re.I
)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The likeliest weights in a checkpoint, on the CPU, freed of what trainers wrap them in. Runs
    no code of the file.

    Raises:
        CheckpointError: if the file is missing, damaged, of another kind, or needs code to be run.
    """
    content = read_content(path)
    guesses = guess(content)
    if not guesses:
        raise no_weights(path, content)
    return guesses[0].weights


def read_content(path: Path) -> object:
    """What a checkpoint holds: mappings of tensors and plain values, on the CPU. Runs no code of
    the file.

    Raises:
        CheckpointError: if the file is missing, damaged, of another kind, or needs code to be run.
    """
    _check_file(path)
    read = _read_safetensors if path.suffix.lower() == ".safetensors" else _read_pickle
    try:
        return read(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error


def no_weights(path: Path, content: object) -> CheckpointError:
    """The error for a file that holds something else."""
    holds: object = type(content)
    if isinstance(content, Mapping):
        holds = ", ".join(map(str, list(content)[:_NAMED_KEYS]))
    return CheckpointError(
        f"{path} holds no weights (it has: {holds}). Expected is a network's checkpoint; a "
        "training state or an optimizer's file is resumed with --auto_resume instead."
    )


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself; empty for other kinds.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    _check_file(path)
    if path.suffix.lower() != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _check_file(path: Path) -> None:
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist. Check the path; relative paths start where you call from."
        )
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the checkpoint file in it.")
    if not path.is_file():
        raise CheckpointError(f"{path} is no file but a pipe or a device; give a checkpoint file.")
    if path.suffix.lower() not in _SUFFIXES:
        raise CheckpointError(
            f"{path} is not a kind of checkpoint that is read: {', '.join(_SUFFIXES)}."
        )
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty. Fetch it again or take an earlier checkpoint.")


def _damaged(path: Path, error: Exception) -> CheckpointError:
    with path.open("rb") as file:
        start = file.read(_BEGINNING)
    # A web page may have any letters, so it need not look like text.
    if start.lstrip().startswith(_DOWNLOADS) or _is_text(start):
        cause = (
            "it is a text file, perhaps a web page or a pointer that was saved in place of the "
            "download"
        )
    else:
        cause = f"it is damaged or cut short ({_first_line(error)})"
    return CheckpointError(
        f"{path} cannot be read: {cause}. Fetch it again or take an earlier checkpoint."
    )


def _first_line(error: Exception) -> str:
    # torch's own text for a pickle it refuses advises to execute it, which is not passed on.
    if isinstance(error, pickle.UnpicklingError):
        return "no pickle of weights"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _is_text(start: bytes) -> bool:
    """Whether the first bytes are printable; a safetensors file starts with a length, a zip and a
    pickle do not.
    """
    # All of ASCII that is printed: a checkpoint's first bytes are a length or a signature.
    return all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start)


def _read_safetensors(path: Path) -> dict[str, object]:
    _require_seal(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            # What safe_open gives has keys, but is no mapping.
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _require_seal(path: Path) -> None:
    """Our own files hold a checksum; those of others cannot be checked."""
    digest, right = read_seal(path)
    if digest is not None and not right:
        raise CheckpointError(
            f"{path} cannot be read: it is damaged (its checksum is another one). Fetch it again "
            "or take an earlier checkpoint."
        )


def _read_pickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _NEEDS_CODE.search(str(error)) or _is_whole_pickle(path):
            raise CheckpointError(
                f"{path} holds Python code beside weights, which reading it would run, so it is "
                "not read. If you trust its maker, convert it in a safe place: load it there with "
                "torch.load(..., weights_only=False) and save the plain weights with "
                "safetensors.torch.save_file."
            ) from error
        raise _damaged(path, error) from error
    except OSError as error:
        # A zip without its end is taken for an older format, and sought beyond its start.
        if error.errno == errno.EINVAL:
            raise _damaged(path, error) from error
        raise
    # Whatever else a reader trips over in bytes that mean nothing, absurd lengths among them.
    except Exception as error:
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"{path} is a TorchScript program, not plain weights. Take the checkpoint it was "
                "made from, or load it with torch.jit.load in a safe place and save its "
                "state_dict() with safetensors.torch.save_file."
            ) from error
        raise _damaged(path, error) from error


def _is_whole_pickle(path: Path) -> bool:
    """Whether the file is an undamaged pickle that torch's restricted reader does not take. Parsed,
    not executed.
    """
    try:
        with path.open("rb") as file:
            return any(operation.name == "STOP" for operation, _, _ in pickletools.genops(file))
    # The parser of bytes that are no pickle fails in many ways: OverflowError, MemoryError, ...
    except Exception:  # noqa: BLE001
        return False
