"""Weights from files: reading them without running what is in them, and fitting them to a
network.
"""

from __future__ import annotations

import errno
import json
import logging
import pickle
import pickletools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from traiNNer.archs.catalogue import LEFT_OUT, SPECS
from traiNNer.archs.clips import refuse_clips
from traiNNer.archs.spec import ArchSpec
from traiNNer.utils.errors import CheckpointError, OptionsError
from traiNNer.utils.registry import ARCHS, UnknownNameError

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

log = logging.getLogger(__name__)

_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
# What trainers wrap the weights in, best first: the smoothed weights are those that are used.
_CONTAINERS = (
    "params_ema",
    "params-ema",
    "params",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
)
_PREFIXES = ("module.", "_orig_mod.", "netG.", "n_averaged.")
_NAMED_KEYS = 3
# What torch's restricted reader says of a pickle that would call something, rather than of a broken
# one.
_NEEDS_CODE = re.compile(
    r"Unsupported (global|class)|GLOBAL|unrecognized function|not an allowed|instantiate", re.I
)


@dataclass(frozen=True)
class LoadReport:
    """What of a file found its place in a network. `mismatched` are keys whose shapes differ, with
    both shapes.
    """

    path: Path
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def complete(self) -> bool:
        """Whether every weight of the network came from the file, and nothing was left over."""
        return not (self.missing or self.unexpected or self.mismatched)

    def summary(self) -> str:
        """One paragraph: how many weights matched, and a few names of each kind that did not."""
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        parts = [f"{self.path}: {len(self.matched)} of the network's {total} weights match"]
        if self.missing:
            parts.append(f"{len(self.missing)} are not in the file ({_some(self.missing)})")
        if self.mismatched:
            shapes = [
                f"{key}: file {_size(found)}, network {_size(own)}"
                for key, found, own in self.mismatched
            ]
            parts.append(f"{len(shapes)} have another shape ({_some(tuple(shapes))})")
        if self.unexpected:
            parts.append(
                f"{len(self.unexpected)} of the file are unknown to the network "
                f"({_some(self.unexpected)})"
            )
        return "; ".join(parts) + "."


@dataclass(frozen=True)
class LoadedModel:
    """A network built from a checkpoint, in evaluation mode: `(B, 3, H, W)` to `(B, 3, H * scale, W
    * scale)`, 0..1.

    `size_multiple` and `min_size` are pixels of a side of the input. A `temporal` network takes
    clips `(B, T, 3, H, W)` of `frames` frames (None: of any number), and makes what
    `ArchSpec.target` says.
    """

    network: nn.Module
    scale: int
    name: str
    size_multiple: int
    min_size: int
    temporal: bool = False
    target: Literal["center", "all"] | None = None
    frames: int | None = None


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint, on the CPU, freed of what trainers wrap them in. Runs no code of
    the file.

    Raises:
        CheckpointError: if the file is missing, damaged, of another kind, or needs code to be run.
    """
    _check_file(path)
    try:
        content = (
            _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_pickle(path)
        )
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    weights = {key: value for key, value in _unwrap(content).items() if isinstance(value, Tensor)}
    if not weights:
        found = (
            ", ".join(map(str, list(content)[:_NAMED_KEYS]))
            if isinstance(content, Mapping)
            else type(content)
        )
        raise CheckpointError(
            f"{path} holds no weights (it has: {found}). Expected is a network's checkpoint; a "
            "training state or an optimizer's file is resumed with --auto_resume instead."
        )
    return weights


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


def load_weights(
    network: nn.Module, path: Path, *, strict: bool, what: str = "network"
) -> LoadReport:
    """Copy a checkpoint's weights into `network`.

    Names are tried as they stand, then as spandrel names them, which understands the older and
    other names in which the weights of some architectures are found.

    Args:
        network: any network; its device and precision stay.
        path: the checkpoint.
        strict: every weight has to match in name and shape; else those that match are copied.
        what: what the network is called in messages, for example "network_g span x2".

    Raises:
        CheckpointError: if the file cannot be read, if `strict` and it does not fit, or if nothing
            matches.
    """
    weights = read_weights(path)
    own = network.state_dict()
    report = _compare(path, own, weights)
    if not report.complete:
        renamed = _renamed_by_spandrel(weights)
        other = _compare(path, own, renamed) if renamed else report
        if len(other.matched) > len(report.matched):
            weights = renamed
            report = other
    if not report.matched or (strict and not report.complete):
        raise CheckpointError(_misfit(report, weights, what, strict=strict))
    with torch.no_grad():
        network.load_state_dict({key: weights[key] for key in report.matched}, strict=False)
    if not report.complete:
        log.warning("%s was loaded in part. %s", what, report.summary())
    return report


def load_model(path: Path) -> LoadedModel:
    """Build the network that a checkpoint holds, and load it.

    A checkpoint of this project says what it is; of any other, spandrel finds out.

    Raises:
        CheckpointError: if the file cannot be read, or holds nothing that maps an image to an
            image.
    """
    metadata = read_metadata(path)
    weights = read_weights(path)
    if "arch" in metadata:
        return _load_ours(path, metadata)
    descriptor = _detect(weights)
    if descriptor is None:
        raise CheckpointError(
            f"{path} holds {len(weights)} weights of an architecture that is not recognized "
            f"({_some(tuple(weights))}). Give a checkpoint of this project or of an architecture "
            "that spandrel knows, or say with network_g and scale what it holds (a temporal "
            "network is known by our .safetensors only)."
        )
    return _from_descriptor(path, descriptor)


def _check_file(path: Path) -> None:
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist. Check the path; relative paths start where you call from."
        )
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the checkpoint file in it.")
    if path.suffix.lower() not in _SUFFIXES:
        raise CheckpointError(
            f"{path} is not a kind of checkpoint that is read: {', '.join(_SUFFIXES)}."
        )
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty. Fetch it again or take an earlier checkpoint.")


def _damaged(path: Path, error: Exception) -> CheckpointError:
    with path.open("rb") as file:
        start = file.read(256)
    if start.lstrip().startswith((b"<", b"version https://git-lfs", b'{"error')) or _is_text(start):
        cause = "it is a text file, perhaps a web page or a pointer that was saved in place of the download"
    else:
        # torch's own text for a pickle it refuses advises to execute it, which is not passed on.
        reason = (
            "no pickle of weights"
            if isinstance(error, pickle.UnpicklingError)
            else str(error).strip()
        )
        cause = f"it is damaged or cut short ({reason.splitlines()[0] if reason else type(error).__name__})"
    return CheckpointError(
        f"{path} cannot be read: {cause}. Fetch it again or take an earlier checkpoint."
    )


def _is_text(start: bytes) -> bool:
    """Whether the first bytes are printable; a safetensors file starts with a length, a zip and a
    pickle do not.
    """
    return all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start)


def _read_safetensors(path: Path) -> dict[str, object]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    except SafetensorError as error:
        raise _damaged(path, error) from error


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
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"{path} is a TorchScript program, not plain weights. Take the checkpoint it was "
                "made from, or load it with torch.jit.load in a safe place and save its "
                "state_dict() with safetensors.torch.save_file."
            ) from error
        raise _damaged(path, error) from error
    except OSError as error:
        if (
            error.errno == errno.EINVAL
        ):  # a zip without its end is taken for an older format, and sought beyond its start
            raise _damaged(path, error) from error
        raise
    except (EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError) as error:
        raise _damaged(path, error) from error


def _is_whole_pickle(path: Path) -> bool:
    """Whether the file is an undamaged pickle that torch's restricted reader does not take. Parsed,
    not executed.
    """
    try:
        with path.open("rb") as file:
            return any(operation.name == "STOP" for operation, _, _ in pickletools.genops(file))
    except ValueError:
        return False


def _unwrap(content: object) -> dict[str, object]:
    """The dictionary of weights inside the containers and prefixes that trainers put around it."""
    while isinstance(content, Mapping):
        inner = next(
            (content[key] for key in _CONTAINERS if isinstance(content.get(key), Mapping)), None
        )
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        return {}
    weights = {str(key): value for key, value in content.items()}
    for prefix in _PREFIXES:
        if weights and all(key.startswith(prefix) for key in weights):
            weights = {key[len(prefix) :]: value for key, value in weights.items()}
    return weights


def _compare(path: Path, own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> LoadReport:
    shared = [key for key in own if key in weights]
    return LoadReport(
        path=path,
        matched=tuple(key for key in shared if weights[key].shape == own[key].shape),
        missing=tuple(key for key in own if key not in weights),
        unexpected=tuple(key for key in weights if key not in own),
        mismatched=tuple(
            (key, tuple(weights[key].shape), tuple(own[key].shape))
            for key in shared
            if weights[key].shape != own[key].shape
        ),
    )


def _detect(weights: Mapping[str, Tensor]) -> ImageModelDescriptor | None:
    """What spandrel makes of the weights; None where it knows nothing like them, or wrongly
    believes it does.
    """
    from spandrel import ModelLoader

    try:
        # Copied because the loaders rename and remove entries.
        return ModelLoader().load_from_state_dict(dict(weights))  # type: ignore[return-value] - masks are told apart later
    except Exception as error:  # noqa: BLE001 - a guess by key names may fail in any way on weights of another network
        log.debug("spandrel does not load these weights: %s: %s", type(error).__name__, error)
        return None


def _renamed_by_spandrel(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    descriptor = _detect(weights)
    return {} if descriptor is None else descriptor.model.state_dict()


def _held(path: Path, weights: Mapping[str, Tensor]) -> str:
    """What the file holds in words, for example `SwinIR x4`; empty if nobody knows."""
    metadata = read_metadata(path)
    if "arch" in metadata:
        return f"{metadata['arch']} x{metadata.get('scale', '?')}"
    descriptor = _detect(weights)
    return "" if descriptor is None else f"{descriptor.architecture.id} x{descriptor.scale}"


def _misfit(report: LoadReport, weights: Mapping[str, Tensor], what: str, *, strict: bool) -> str:
    held = _held(report.path, weights)
    holds = f"The file holds {held}." if held else "What the file holds is not recognized."
    if report.matched and strict:
        advice = "Set network_g's type, scale and parameters to the file's, or strict_load_g: false to take what fits."
    else:
        advice = "Set network_g's type, scale and parameters to the file's, or leave the pretrained weights out."
    return f"{what} cannot be loaded from {report.summary()} {holds} {advice}"


def _load_ours(path: Path, metadata: Mapping[str, str]) -> LoadedModel:
    name = metadata["arch"]
    try:
        scale = int(metadata["scale"])
        parameters = json.loads(metadata.get("parameters", "{}"))
        if not isinstance(parameters, dict):
            raise ValueError(f"its parameters are {parameters!r}")
        spec: ArchSpec = ARCHS[name].for_parameters(parameters)
        network = spec(scale=scale, **parameters)
    except (UnknownNameError, OptionsError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} says that it holds '{name}' (scale {metadata.get('scale', 'not given')}), "
            f"which cannot be built: {error}. It may come from another version "
            f"({metadata.get('traiNNer', 'unknown')})."
        ) from error
    load_weights(network, path, strict=True, what=f"{spec.label} x{scale}")
    return LoadedModel(
        network=network.eval(),
        scale=scale,
        name=spec.name,
        size_multiple=spec.size_multiple,
        min_size=spec.min_size,
        temporal=spec.temporal,
        target=spec.target,
        frames=spec.frames_of(parameters),
    )


def _from_descriptor(path: Path, descriptor: ImageModelDescriptor) -> LoadedModel:
    from spandrel import ImageModelDescriptor

    identity = descriptor.architecture.id
    if not isinstance(descriptor, ImageModelDescriptor) or identity in LEFT_OUT:
        why = LEFT_OUT.get(identity, "it does not map one image to one image")
        raise CheckpointError(f"{path} holds {identity}, which is not supported: {why}.")
    channels = (descriptor.input_channels, descriptor.output_channels)
    if channels != (3, 3):
        raise CheckpointError(
            f"{path} holds {identity} for images of {channels[0]} channels in and {channels[1]} "
            "out; only 3 and 3 (RGB) are supported."
        )
    spec = next(spec for spec in SPECS if spec.architecture == identity)
    required = descriptor.size_requirements
    network: nn.Module = _DescriptorNetwork(descriptor)
    if spec.adapted:
        network = descriptor.model
        network.__class__ = spec.network_class(descriptor.scale)
    return LoadedModel(
        network=refuse_clips(network.eval()),
        scale=descriptor.scale,
        name=identity,
        size_multiple=max(required.multiple_of, spec.size_multiple),
        min_size=max(required.minimum, spec.min_size),
    )


class _DescriptorNetwork(nn.Module):
    """spandrel's network with what spandrel does around some, such as adding a noise level to the
    image.
    """

    def __init__(self, descriptor: ImageModelDescriptor) -> None:
        super().__init__()
        self.network = descriptor.model
        self._call = (
            descriptor._call_fn
        )  # spandrel's own call pads, clamps and forbids gradients as well

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, 3, H * scale, W * scale)`; the input stays as it was."""
        return self._call(self.network, x.clone())


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED_KEYS]) + (", ..." if len(names) > _NAMED_KEYS else "")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
