"""What a validation asks of a metric."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor


class Metric(Protocol):
    """Compares an output with its target; every entry of the registry makes one."""

    # Class attributes, so that a table of results can be laid out before anything is measured.
    better: Literal["higher", "lower"]
    unit: str
    temporal: bool
    """Whether it compares a frame and the one after it, `(2, 3, H, W)`, and not single images,
    `(1, 3, H, W)`."""

    @property
    def min_side(self) -> int:
        """Pixels that each side of an image must have at least."""
        ...

    def __call__(self, sr: Tensor, gt: Tensor) -> float:
        """The score of `sr`, in [0, 1], against `gt`.

        Raises:
            DataError: if the shapes differ, or a side is shorter than `min_side`.
        """
        ...
