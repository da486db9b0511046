"""Weights from files: fitting them to a network, or building the network that they are of."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from traiNNer.archs.catalogue import LEFT_OUT, SPECS
from traiNNer.archs.clips import refuse_clips
from traiNNer.archs.weight_files import no_weights, read_content, read_metadata
from traiNNer.archs.weight_sets import Choice, choose_by, choose_for, guess
from traiNNer.utils.errors import CheckpointError, OptionsError
from traiNNer.utils.registry import ARCHS, UnknownNameError

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

log = logging.getLogger(__name__)

# Names that a message gives as examples: enough to recognize an architecture by.
_NAMED_KEYS = 3


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
                f"{key}: file {_size(in_file)}, network {_size(in_network)}"
                for key, in_file, in_network in self.mismatched
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


def load_weights(
    network: nn.Module, path: Path, *, strict: bool, what: str = "network"
) -> LoadReport:
    """Copy a checkpoint's weights into `network`.

    Of the sets of weights in the file, that is taken which has the network's names, whatever is
    put before them; averaged weights go before others, and what was taken is said. Names are tried
    as they are, then as spandrel names them, which understands the older and other names in which
    the weights of some architectures are found.

    Args:
        network: any network; its device and precision stay.
        path: the checkpoint.
        strict: every weight has to match in name and shape; else those that match are copied.
        what: what the network is called in messages, for example "network_g span x2".

    Raises:
        CheckpointError: if the file cannot be read, if `strict` and it does not fit, or if nothing
            matches.
    """
    content = read_content(path)
    expected = network.state_dict()
    choice = choose_for(content, expected)
    if choice is None:
        raise no_weights(path, content)
    weights: Mapping[str, Tensor] = choice.taken.weights
    report = _compare(path, expected, weights)
    if not report.complete:
        # Only now, because to find out the architecture imports all of spandrel.
        renamed = _renamed_by_spandrel(content)
        if renamed is not None:
            other = _compare(path, expected, renamed[1])
            if len(other.matched) > len(report.matched):
                choice, weights = renamed
                report = other
    if not report.matched or (strict and not report.complete):
        raise CheckpointError(_misfit(report, choice, what, strict=strict))
    _say_choice(path, choice)
    matched = {key: weights[key] for key in report.matched}
    with torch.no_grad():
        # Not strict even where all has to fit: the report said so already, in better words.
        network.load_state_dict(matched, strict=False)
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
    if "arch" in metadata:
        return _load_ours(path, metadata)
    content = read_content(path)
    choice = choose_by(content, lambda weights: _detect(weights) is not None)
    if choice is None:
        raise _unrecognized(path, content)
    # Now that the names are known: averaged weights may have them in another way.
    choice = choose_for(content, choice.taken.weights) or choice
    descriptor = _detect(choice.taken.weights)
    if descriptor is None:
        raise _unrecognized(path, content)
    _say_choice(path, choice)
    return _from_descriptor(path, descriptor)


def _unrecognized(path: Path, content: object) -> CheckpointError:
    guesses = guess(content)
    if not guesses:
        return no_weights(path, content)
    weights = guesses[0].weights
    names = [other.name for other in guesses[:_NAMED_KEYS] if other.name]
    tried = f", in {', '.join(names)}" if names else ""
    return CheckpointError(
        f"{path} holds {len(weights)} weights of an architecture that is not recognized "
        f"({_some(tuple(weights))}){tried}. Give a checkpoint of this project or of an "
        "architecture that spandrel knows, or say with network_g and scale what it holds (a "
        "temporal network is known by our .safetensors only)."
    )


def _say_choice(path: Path, choice: Choice) -> None:
    """Several sets of weights are never chosen from without a word."""
    summary = choice.summary()
    if summary:
        log.info("%s: %s", path, summary)


def _compare(
    path: Path, expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> LoadReport:
    matched: list[str] = []
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
    for key in [key for key in expected if key in weights]:
        in_file = tuple(weights[key].shape)
        in_network = tuple(expected[key].shape)
        if in_file == in_network:
            matched.append(key)
        else:
            mismatched.append((key, in_file, in_network))
    return LoadReport(
        path=path,
        matched=tuple(matched),
        missing=tuple(key for key in expected if key not in weights),
        unexpected=tuple(key for key in weights if key not in expected),
        mismatched=tuple(mismatched),
    )


def _detect(weights: Mapping[str, Tensor]) -> ImageModelDescriptor | None:
    """What spandrel makes of the weights; None where it knows nothing like them, or wrongly
    believes it does.
    """
    from spandrel import ModelLoader

    try:
        # Copied because the loaders rename and remove entries. Networks with masks are told apart
        # later.
        return ModelLoader().load_from_state_dict(dict(weights))  # type: ignore[return-value]
    # A guess by the names of keys may fail in any way on the weights of another network.
    except Exception as error:  # noqa: BLE001
        log.debug("spandrel does not load these weights: %s: %s", type(error).__name__, error)
        return None


def _renamed_by_spandrel(content: object) -> tuple[Choice, dict[str, Tensor]] | None:
    """A set of weights of which spandrel knows the architecture, and its weights as spandrel names
    them.
    """
    renamed: dict[str, Tensor] = {}

    def accepts(weights: Mapping[str, Tensor]) -> bool:
        descriptor = _detect(weights)
        if descriptor is not None:
            renamed.update(descriptor.model.state_dict())
        return descriptor is not None

    choice = choose_by(content, accepts)
    return None if choice is None else (choice, renamed)


def _held(path: Path, weights: Mapping[str, Tensor]) -> str:
    """What the file holds in words, for example `SwinIR x4`; empty if nobody knows."""
    metadata = read_metadata(path)
    if "arch" in metadata:
        return f"{metadata['arch']} x{metadata.get('scale', '?')}"
    descriptor = _detect(weights)
    return "" if descriptor is None else f"{descriptor.architecture.id} x{descriptor.scale}"


def _misfit(report: LoadReport, choice: Choice, what: str, *, strict: bool) -> str:
    held = _held(report.path, choice.taken.weights)
    holds = f"The file holds {held}." if held else "What the file holds is not recognized."
    summary = choice.summary()
    if summary:
        holds = f"Of the file {summary}. {holds}"
    near = _near_miss(report)
    if near:
        holds = f"{near} {holds}"
    otherwise = "leave the pretrained weights out"
    is_teacher = what == "network_g_teacher"
    if report.matched and strict and not is_teacher:
        otherwise = "strict_load_g: false to take what fits"
    section = what if is_teacher else "network_g"
    return (
        f"{what} cannot be loaded from {report.summary()} {holds} Set {section}'s type, scale and "
        f"parameters to the file's, or {otherwise}."
    )


def _near_miss(report: LoadReport) -> str:
    """The name of the file that is most like one that is missing; empty if none is."""
    for missing in report.missing[:_NAMED_KEYS]:
        near = get_close_matches(missing, report.unexpected, n=1, cutoff=0.8)
        if near:
            return f"The file's {near[0]} is like the missing {missing}."
    return ""


def _load_ours(path: Path, metadata: Mapping[str, str]) -> LoadedModel:
    name = metadata["arch"]
    try:
        scale = int(metadata["scale"])
        parameters = json.loads(metadata.get("parameters", "{}"))
        if not isinstance(parameters, dict):
            raise ValueError(f"its parameters are {parameters!r}")
        spec = ARCHS[name].for_parameters(parameters)
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
    # The facts that all variants of an architecture share; which variant it is, nobody knows.
    spec = next(spec for spec in SPECS if spec.architecture == identity)
    required = descriptor.size_requirements
    network: nn.Module = _DescriptorNetwork(descriptor)
    if spec.adapted:
        # Adapters have the weights of their base, and do what the descriptor's call does around it.
        network = descriptor.model
        network.__class__ = cast("type[nn.Module]", spec.network_class(descriptor.scale))
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
        # Not the descriptor's own call, which pads, clamps and forbids gradients as well.
        self._call = descriptor._call_fn  # noqa: SLF001

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, 3, H * scale, W * scale)`; the input stays as it was."""
        # A copy, because some classes write into their input.
        return self._call(self.network, x.clone())


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED_KEYS]) + (", ..." if len(names) > _NAMED_KEYS else "")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
