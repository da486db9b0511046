"""What clips and images are to a network, and the words for a network that is given the other."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from torch import Tensor, nn


def _odd(frames: int) -> int:
    if frames % 2 == 0:
        raise PydanticCustomError(
            "even_frames", "expected an odd number, so that one of the frames is the centre"
        )
    return frames


# Blocks and channels of a network.
AtLeastOne = Annotated[int, Field(ge=1)]
# What the options may say of the frames around a centre.
OddFrames = Annotated[int, Field(ge=1), AfterValidator(_odd)]


def require_centre(frames: object) -> int:
    """`frames` itself, where it is a number of frames with a centre.

    Raises:
        ValueError: for an even number, one below 1, and what is no whole number.
    """
    # True is a whole number to Python.
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1 or frames % 2 == 0:
        raise ValueError(
            f"frames: {frames!r} has no frame in the centre; expected an odd number, 1 or more"
        )
    return frames


def require_clip(x: Tensor, frames: int | None = None) -> None:
    """Refuse what is no batch of clips `(B, T, 3, H, W)` of `frames` frames (None: of any number).

    Raises:
        ValueError: saying which shape is expected.
    """
    expected = f"(B, {'T' if frames is None else frames}, 3, H, W)"
    if x.dim() != 5:
        kind = "an image" if x.dim() == 4 else "a tensor"
        raise ValueError(
            f"a temporal network takes clips {expected}, and was given {kind} of shape "
            f"{tuple(x.shape)}"
        )
    if x.shape[2] != 3:
        raise ValueError(
            f"a temporal network takes clips {expected}, and was given the shape {tuple(x.shape)}"
        )
    # Any number of frames is not none at all.
    if x.shape[1] != (frames or max(1, x.shape[1])):
        raise ValueError(
            f"this network takes clips {expected}, and was given {x.shape[1]} frames; "
            "clip_size of the dataset and frames of the network have to be the same"
        )


def refuse_clips(network: nn.Module) -> nn.Module:
    """Make an image network say what is wrong when it is given a clip, whatever its class would do
    with one.
    """
    # A hook and not a wrapper, which would change the names of the weights.
    network.register_forward_pre_hook(_require_images)
    return network


def _require_images(_: nn.Module, arguments: tuple[Any, ...]) -> None:
    x = arguments[0] if arguments else None
    if isinstance(x, Tensor) and x.dim() == 5:
        raise ValueError(
            "this network takes images (B, 3, H, W), and was given clips of shape "
            f"{tuple(x.shape)}; clips are for temporal networks, such as temporal_stack with this "
            "network as its arch"
        )
