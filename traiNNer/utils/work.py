"""What a run has done so far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Work:
    """Counts over all sittings of a run, validation and saving included in the time.

    Attributes:
        iterations: changes of the weights.
        samples: that the network was trained on; an accumulated iteration counts all of its own.
        pixels: LQ pixels that entered the network, of all frames.
        seconds: of a monotonic clock, so that a clock that is set changes nothing.
    """

    iterations: int = 0
    samples: int = 0
    pixels: int = 0
    seconds: float = 0.0

    def add(self, samples: int, pixels: int) -> None:
        """One iteration over `samples` samples of `pixels` LQ pixels in all."""
        self.iterations += 1
        self.samples += samples
        self.pixels += pixels
