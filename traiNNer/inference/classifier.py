"""Opening classifiers, and what they say of pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from traiNNer.archs.weight_files import read_metadata
from traiNNer.inference.ensemble import turned
from traiNNer.inference.network import on_device, open_network
from traiNNer.inference.residents import find_places
from traiNNer.models.classifier_model import probabilities
from traiNNer.ops.resize import resize
from traiNNer.options.schema import TestOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import ARCHS

log = logging.getLogger(__name__)
# Side of the pictures for a network that does not say which it was trained at: torchvision's.
_USUAL_SIZE = 224
# Patches along each side of a picture: nine of them are as much as a large picture needs.
_MOST_PATCHES = 3


@dataclass(frozen=True)
class ClassFacts:
    """What a classifier's file says.

    Attributes:
        classes: their names, in order.
        lq_size: side of the pictures that it was judged at while training, in pixels.
        fit: resize or crop: see `ImageFolderDataset`.
        activation: softmax, or sigmoid where a picture may have several classes.
    """

    classes: tuple[str, ...]
    lq_size: int
    fit: str
    activation: str


@dataclass(frozen=True)
class ClassMember:
    """A network in evaluation mode, its facts, its share of the mean, and whether it stays on the
    device.
    """

    network: nn.Module
    facts: ClassFacts
    weight: float = 1.0
    stays: bool = True


class Classifier:
    """The weighted mean of what networks say of pictures.

    Args:
        members: of the same classes.
        runtime: device and precision.
        is_turned: show each picture in all eight positions.

    Raises:
        OptionsError: if the networks have different classes.
    """

    def __init__(
        self, members: Sequence[ClassMember], runtime: Runtime, *, is_turned: bool = False
    ) -> None:
        self.members = tuple(members)
        self.runtime = runtime
        self.is_turned = is_turned
        self.facts = self.members[0].facts
        for member in self.members[1:]:
            if member.facts.classes != self.facts.classes:
                raise OptionsError(
                    f"ensemble: one member tells {', '.join(self.facts.classes)} and another "
                    f"{', '.join(member.facts.classes)}; the members of an ensemble tell the same"
                )

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """(B, classes) probabilities in float32, in main memory.

        Args:
            pictures: (B, 3, H, W) in [0, 1].
        """
        positions = range(8 if self.is_turned else 1)
        shown = pictures.to(self.runtime.device)
        total = torch.zeros(len(pictures), len(self.facts.classes))
        weights = sum(member.weight for member in self.members) * len(positions)
        for member in self.members:
            with on_device(member.network, self.runtime, stays=member.stays):
                for position in positions:
                    with self.runtime.autocast():
                        logits = member.network(turned(shown, position))
                    told = probabilities(logits, member.facts.activation).cpu()
                    total += told * (member.weight / weights)
        return total

    def of_whole(self, picture: Tensor) -> Tensor:
        """(classes,) probabilities of a picture (3, H, W) in [0, 1] of any size: the mean over its
        patches where the network was trained on patches, else of the picture as a whole.
        """
        return self(patches_of(picture, self.facts.lq_size, self.facts.fit)).mean(0)


def patches_of(picture: Tensor, side: int, fit: str) -> Tensor:
    """(N, 3, side, side): up to nine patches of (3, H, W), spread evenly, or the middle of the
    picture resized.
    """
    height, width = picture.shape[-2:]
    shorter = min(height, width)
    if fit == "resize" or shorter < side:
        size = (max(side, round(height * side / shorter)), max(side, round(width * side / shorter)))
        picture = resize(picture, size).clamp(0, 1)
        height, width = size
    if fit == "resize":
        tops, lefts = [(height - side) // 2], [(width - side) // 2]
    else:
        tops, lefts = _spread(height, side), _spread(width, side)
    return torch.stack(
        [picture[:, top : top + side, left : left + side] for top, left in product(tops, lefts)]
    )


def _spread(length: int, side: int) -> list[int]:
    count = min(_MOST_PATCHES, length // side)
    if count == 1:
        return [(length - side) // 2]
    return [round(number * (length - side) / (count - 1)) for number in range(count)]


def names_classifier(options: TestOptions) -> bool:
    """Whether the options' network, or the first of several, tells classes.

    Raises:
        CheckpointError: if its file cannot be read.
    """
    if options.network_g is not None:
        return options.network_g.entry.task == "classification"
    name = read_metadata(_checkpoints(options)[0][0]).get("arch", "")
    return name in ARCHS and ARCHS[name].task == "classification"


def open_classifier(options: TestOptions, runtime: Runtime) -> Classifier:
    """The networks that the options name.

    Raises:
        CheckpointError: if a file cannot be read.
        OptionsError: if the networks do not go together, or what is asked for is for pictures.
    """
    if options.val.agreement_map:
        raise OptionsError("val.agreement_map is for networks that make pictures; leave it out")
    files = _checkpoints(options)
    networks: list[nn.Module] = []
    for path, _ in files:
        where = options.path.model_copy(update={"pretrain_network_g": str(path)})
        own = options.model_copy(update={"path": where})
        networks.append(open_network(own).network.eval())
    places = find_places(networks, [runtime], options.parallel)
    members: list[ClassMember] = []
    for (path, weight), network, place in zip(files, networks, places, strict=True):
        if place.stays:
            runtime.place(network)
        facts = _facts(path, options)
        log.info("%s: %s, %s", path, ", ".join(facts.classes), runtime)
        forward = cast(nn.Module, torch.compile(network)) if runtime.compile else network
        members.append(ClassMember(forward, facts, weight, place.stays))
    return Classifier(members, runtime, is_turned=options.val.self_ensemble == "x8")


def _checkpoints(options: TestOptions) -> list[tuple[Path, float]]:
    """The files, and their shares of the mean."""
    if options.ensemble is None:
        return [(Path(options.path.pretrain_network_g or ""), 1.0)]
    return [(Path(member.checkpoint), member.weight) for member in options.ensemble]


def _facts(path: Path, options: TestOptions) -> ClassFacts:
    metadata = read_metadata(path)
    if "classes" in metadata:
        classes = tuple(map(str, json.loads(metadata["classes"])))
    else:
        # Weights of others say no names.
        described = options.network_g
        count = 1000 if described is None else int(described.params.get("num_classes", 1000))
        classes = tuple(map(str, range(count)))
    return ClassFacts(
        classes,
        options.val.lq_size or int(metadata.get("lq_size", _USUAL_SIZE)),
        metadata.get("fit", "resize"),
        metadata.get("activation", "softmax"),
    )
