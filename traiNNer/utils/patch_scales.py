"""The sizes that a step works at."""

from __future__ import annotations

from dataclasses import dataclass

from traiNNer.utils.arithmetic import round_up


@dataclass(frozen=True)
class PatchScales:
    """Sizes that a step works at, in proportion to the patch, which is the largest of them.

    Attributes:
        scales: sides in LQ pixels, as the options give them.
        multiple: what a side is a multiple of.
        least: the smallest side, a multiple too.
    """

    scales: tuple[int, ...]
    multiple: int = 1
    least: int = 1

    def sides(self, lq_size: int) -> tuple[int, ...]:
        """Sides for a patch of `lq_size` pixels, the largest first, which is the patch itself."""
        largest = max(self.scales)
        ordered = sorted(self.scales, reverse=True)[1:]
        smaller = [self._on_grid(lq_size * scale / largest) for scale in ordered]
        return (lq_size, *(min(lq_size, max(self.least, side)) for side in smaller))

    def _on_grid(self, side: float) -> int:
        return round(side / self.multiple) * self.multiple

    def smallest_patch(self, side: int) -> int:
        """The smallest patch whose sizes are all in proportion, none below `side`."""
        share = min(self.scales) / max(self.scales)
        patch = round_up(side, self.multiple)
        while self._on_grid(patch * share) < side:
            patch += self.multiple
        return patch

    @property
    def pixels(self) -> float:
        """Pixels of all sizes, against those of the largest one."""
        return sum(scale**2 for scale in self.scales) / max(self.scales) ** 2
