"""What is known of a network that was built, in one value: who runs it needs no look at its class.

A spec knows the facts of every scale and of all parameters; these are those of one network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from traiNNer.archs.catalogue import SPECS
from traiNNer.archs.loading import LoadedModel, load_model, read_metadata
from traiNNer.utils.registry import ARCHS

if TYPE_CHECKING:
    from torch import nn

    from traiNNer.archs.spec import ArchSpec


@dataclass(frozen=True)
class NetworkFacts:
    """What a network takes and makes. Sizes are pixels of a side of the low-quality image.

    Attributes:
        name: what it is called in messages.
        scale: factor between input and output sides.
        size_multiple: what each side should be a multiple of.
        min_size: the smallest side.
        temporal: takes clips `(B, T, 3, H, W)`, and not images `(B, 3, H, W)`.
        target: of a clip it makes the frame T // 2 ("center") or every frame ("all"); None for
            images.
        frames: T, where the network takes clips of one length only.
        fp16: safe in half precision.
        bf16: safe in bfloat16.
    """

    name: str
    scale: int
    size_multiple: int = 1
    min_size: int = 1
    temporal: bool = False
    target: Literal["center", "all"] | None = None
    frames: int | None = None
    fp16: bool = True
    bf16: bool = True

    @classmethod
    def from_spec(
        cls, spec: ArchSpec, scale: int, parameters: Mapping[str, object]
    ) -> NetworkFacts:
        """The facts of the network that `spec(scale=scale, **parameters)` builds."""
        # The parameters may name a further network, as those of temporal_stack do.
        spec = spec.for_parameters(parameters)
        return cls(
            name=spec.name,
            scale=scale,
            size_multiple=spec.size_multiple,
            min_size=spec.min_size,
            temporal=spec.temporal,
            target=spec.target,
            frames=spec.frames_of(parameters),
            fp16=spec.fp16,
            bf16=spec.bf16,
        )

    @classmethod
    def from_foreign(cls, loaded: LoadedModel) -> NetworkFacts:
        """The facts of a network that was found out from the weights of another project."""
        # Weights tell the architecture, not its variant; what not every variant of it can do is
        # not promised.
        kin = [spec for spec in SPECS if spec.architecture == loaded.name]
        return cls(
            name=loaded.name,
            scale=loaded.scale,
            size_multiple=loaded.size_multiple,
            min_size=loaded.min_size,
            temporal=loaded.temporal,
            target=loaded.target,
            frames=loaded.frames,
            fp16=all(spec.fp16 for spec in kin),
            bf16=all(spec.bf16 for spec in kin),
        )


@dataclass(frozen=True)
class OpenedNetwork:
    """A network with its weights, on the CPU and in evaluation mode, and what is known of it."""

    network: nn.Module
    facts: NetworkFacts


def open_checkpoint(path: Path) -> OpenedNetwork:
    """The network that a checkpoint holds, as `load_model` finds it, and its facts.

    Raises:
        CheckpointError: if the file cannot be read, or holds nothing that maps an image to an
            image.
    """
    loaded = load_model(path)
    metadata = read_metadata(path)
    # A checkpoint of ours names its variant and parameters, on which some facts rest.
    if "arch" in metadata:
        parameters = json.loads(metadata.get("parameters", "{}"))
        facts = NetworkFacts.from_spec(ARCHS[metadata["arch"]], loaded.scale, parameters)
    else:
        facts = NetworkFacts.from_foreign(loaded)
    return OpenedNetwork(loaded.network, facts)
