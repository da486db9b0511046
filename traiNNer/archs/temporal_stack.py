"""Any image network of the catalogue over stacked frames: early fusion, as VESPCN (Caballero et
al., 2017) calls it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor, nn

from traiNNer.archs.clips import OddFrames, require_centre, require_clip
from traiNNer.archs.spec import ArchSpec
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import ARCHS, UnknownNameError

# Parameters of the stack itself; all others are those of the network inside.
_OF_THE_STACK = ("arch", "frames")


class TemporalStack(nn.Module):
    """Hands an image network the frames of a clip as the channels of one image, and takes the
    centre frame from it.

    Args:
        network: `(B, 3 * frames, H, W)` to `(B, 3, H * scale, W * scale)`, or to as many channels
            as it takes: a network that adds its input to its output. Of those the centre frame's
            three are the result.
        frames: of a clip.
    """

    def __init__(self, network: nn.Module, frames: int) -> None:
        super().__init__()
        self.network = network
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        """`(B, frames, 3, H, W)` to the centre frame, `(B, 3, H * scale, W * scale)`."""
        require_clip(x, self.frames)
        output = self.network(self._in_layout(x.flatten(1, 2)))
        # The middle channel of an odd number of frames is the green one of the centre.
        centre = output.shape[1] // 2
        return output if output.shape[1] == 3 else output[:, centre - 1 : centre + 2]

    def _in_layout(self, images: Tensor) -> Tensor:
        """In the memory format of the weights, which not every network carries over to what it
        computes.
        """
        last = torch.channels_last
        for weight in self.parameters():
            # Weights of a 1x1 kernel are contiguous in both formats, and so tell nothing.
            told = weight.dim() == 4 and not weight.is_contiguous()
            if told and weight.is_contiguous(memory_format=last):
                return images.contiguous(memory_format=last)
        return images


@dataclass(frozen=True, eq=False)
class StackSpec(ArchSpec):
    """An image network over stacked frames: its facts are those of the network that `arch` names.

    Args:
        arch: an image network of the catalogue; its own parameters are given beside this one.
        frames: consecutive frames that it sees, an odd number. It makes the one in the middle.

    Attributes:
        inner: the image network; None until `for_parameters` has told it.
    """

    inner: ArchSpec | None = None

    chosen_by: ClassVar[str] = "arch"

    @property
    def label(self) -> str:
        """The name in messages, with that of the image network."""
        return self.name if self.inner is None else f"{self.name} of {self.inner.name}"

    def for_parameters(self, parameters: Mapping[str, object]) -> ArchSpec:
        """The spec with the facts and the parameters of the network that `arch` names.

        Raises:
            UnknownNameError: if there is no network of that name; the names in it are those that
                can be given.
            OptionsError: if it is missing or no name, or if that network cannot take stacked
                frames.
        """
        name = parameters.get("arch")
        if not isinstance(name, str):
            raise OptionsError(
                "expected the image network that sees the frames; there are: "
                f"{', '.join(stackable())}"
            )
        try:
            return _resolved(self, ARCHS.canonical(name))
        except UnknownNameError as error:
            # The registry's hints are of all networks, those that cannot be stacked too.
            near = [suggestion for suggestion in error.suggestions if suggestion in stackable()]
            raise UnknownNameError(error.kind, error.name, near, stackable()) from None

    def _parameters(self) -> list[inspect.Parameter]:
        keyword = inspect.Parameter.KEYWORD_ONLY
        frames = self.defaults["frames"]
        of_the_stack = [
            inspect.Parameter("arch", keyword, annotation=str),
            inspect.Parameter("frames", keyword, default=frames, annotation=OddFrames),
        ]
        if self.inner is None:
            return of_the_stack
        # The first parameter is the scale, which both have.
        return of_the_stack + list(self.inner.__signature__.parameters.values())[1:]

    def __call__(self, *, scale: int, **parameters: object) -> nn.Module:
        """Build the network for clips `(B, frames, 3, H, W)` in 0..1, in training mode, with fresh
        weights.

        Raises:
            UnknownNameError: if `arch` names no network.
            OptionsError: for a scale that the network does not offer, an unknown parameter, or
                values that it cannot be built with.
        """
        if self.inner is None:
            return self.for_parameters(parameters)(scale=scale, **parameters)
        self._check(scale, parameters)
        try:
            frames = require_centre(parameters.get("frames", self.defaults["frames"]))
        except ValueError as error:
            raise OptionsError(f"network '{self.label}' cannot be built with {error}") from None
        inner = {name: value for name, value in parameters.items() if name not in _OF_THE_STACK}
        return TemporalStack(self.inner.build(scale, inner, frames), frames)


def stackable() -> list[str]:
    """The names that `arch` may have."""
    return [name for name, spec in ARCHS.items() if spec.stackable]


# The same object for the same network, because its signature is worth keeping: to find it out
# imports the class.
@cache
def _resolved(generic: StackSpec, name: str) -> StackSpec:
    inner = ARCHS[name]
    if not inner.stackable:
        why = "takes no more than the three channels of one image"
        if inner.temporal:
            why = "takes clips by itself"
        raise OptionsError(
            f"{name} {why}, so it cannot be stacked; those that can: {', '.join(stackable())}"
        )
    return replace(
        generic,
        inner=inner,
        scales=inner.scales,
        size_multiple=inner.size_multiple,
        min_size=inner.min_size,
        min_batch=inner.min_batch,
        unused_parameters=inner.unused_parameters,
        fp16=inner.fp16,
        bf16=inner.bf16,
        note=inner.note,
    )
