"""What a training batch looks like."""

from __future__ import annotations

from dataclasses import dataclass

from traiNNer.utils.arithmetic import round_up


@dataclass(frozen=True, order=True)
class Shape:
    """A batch of `batch_size` square patches.

    Attributes:
        lq_size: side in LQ pixels.
        batch_size: samples.
    """

    lq_size: int
    batch_size: int

    def pixels(self, frames: int = 1, multiple: int = 1) -> int:
        """LQ pixels of the whole batch, each side padded to `multiple`, as the network pads it."""
        side = round_up(self.lq_size, multiple)
        return self.batch_size * frames * side * side

    def __str__(self) -> str:
        return f"lq_size {self.lq_size}, batch {self.batch_size}"
