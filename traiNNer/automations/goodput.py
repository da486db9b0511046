"""How large a step is worth making: progress a second, by the noise of gradients and the time that
steps take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from traiNNer.automations.least_squares import weighted_least_squares

# Share of the present look in what is known of the noise: single looks scatter by a third, and the
# noise doubles within some hundred iterations.
FRESH = 0.15
# Least part of a gradient that is taken for the true one; below it a look only says "very noisy".
LEAST_SIGNAL = 0.001
# A run whose length is its work may take so many times as long for the sake of small steps.
SLOWER = 4 / 3
# Steps may take so many times as long as those of the options for the sake of less noise, before
# the memory is filled. Where the loss stands still, almost all of a gradient is noise, and what
# brings a run on is the number of its steps: a small esrgan came to 22.5 dB in 1,100 steps, and to
# 16.1 in 615 that had become eight times as large; a small nafnet to 27.0 in 1,458 and to 25.8 in
# 791 of twice the size. So they grow as far as a device is idle.
LONGER = 1.05
# Shapes whose times are remembered.
MOST_TIMES = 16
# Factor between the pixels of two shapes from which on their times tell the fixed part of a step.
APART = 1.5


@dataclass
class Goodput:
    """What was measured of the worth of large steps. All of it is state.

    Of the square of a gradient that is the mean of p pixels, p / (p + noise) is no noise
    (McCandlish et al., arXiv 1812.06162). Adam and its kin divide by the root of the gradients'
    mean square, noise included, so a step makes a progress of sqrt(p / (p + noise)), whatever
    their momentum averages; p^power times that where the learning rate follows the batch so. The
    same is taken for optimizers that do not divide, such as SGD. A step takes the time of
    (fixed + p) pixels. Progress a second is the goodput of Pollux (Qiao et al., OSDI 2021).

    Attributes:
        power: of the batch that the learning rate follows: 0 for none, 0.5 for the square root.
        noise: pixels of which half of the mean gradient's square is noise; 0 while nobody looked.
        looks: how often somebody did.
        times: padded pixels and seconds of steps, by shape, the youngest last.
        batch: at which lq_size grows, where the options' is too large; 0 where it is not.
    """

    power: float = 0.0
    noise: float = 0.0
    looks: int = 0
    times: list[tuple[int, float]] = field(default_factory=list)
    batch: int = 0

    def look(self, cosine: float, pixels: float) -> None:
        """Take in the cosine between gradients of two different sets of so many padded pixels."""
        if not math.isfinite(cosine):
            return
        expected = self.signal(pixels) if self.looks else cosine
        self.looks += 1
        share = max(FRESH, 1 / self.looks)
        signal = max(LEAST_SIGNAL, expected + share * (cosine - expected))
        self.noise = pixels * max(0.0, 1 / signal - 1)

    def signal(self, pixels: float) -> float:
        """The part of the square of a mean gradient of so many pixels that is no noise."""
        return pixels / (pixels + self.noise)

    def note_time(self, pixels: int, seconds: float) -> None:
        """Take in what a step of so many padded pixels takes."""
        kept = [(known, time) for known, time in self.times if known != pixels]
        self.times = [*kept, (pixels, seconds)][-MOST_TIMES:]

    def worth(self, pixels: float) -> float:
        """The part of the square of a step's gradient that is noise."""
        return 1 - self.signal(pixels) if self.noise else 0.0

    @property
    def fixed(self) -> float:
        """The part of a step's time that does not depend on its size, in the pixels that could be
        worked on meanwhile; 0 while it is not known.
        """
        if not self.times:
            return 0.0
        sizes = [pixels for pixels, _ in self.times]
        if max(sizes) < APART * min(sizes):
            return 0.0
        rows = [(1 / seconds, pixels / seconds) for pixels, seconds in self.times]
        start, slope = weighted_least_squares(rows, [1.0] * len(rows), [1.0] * len(rows))
        if start <= 0:
            return 0.0
        return start / slope if slope > 0 else math.inf

    @property
    def best_pixels(self) -> float:
        """Padded pixels of the step that makes the most progress a second; 0 while nothing is
        known.
        """
        if not self.noise:
            return 0.0
        fixed = self.fixed
        if self.power >= 1 or math.isinf(fixed):
            return math.inf
        # Where the derivative of p^power * sqrt(p / (p + noise)) / (p + fixed) is 0.
        half = (self.power * fixed - (0.5 - self.power) * self.noise) / 2
        rest = (1 - self.power) * (0.5 + self.power) * fixed * self.noise
        return (half + math.sqrt(half**2 + rest)) / (1 - self.power)

    def hardly_slower(self, pixels: float) -> float:
        """Padded pixels of the smallest step with which a run over so much work takes `SLOWER`
        times as long as with steps of `pixels`.
        """
        fixed = self.fixed
        if math.isinf(fixed):
            return pixels
        each = SLOWER * (1 + fixed / pixels)
        return fixed / (each - 1)

    def hardly_longer(self, pixels: float) -> float:
        """Padded pixels of the largest step that takes at most `LONGER` times as long as one of
        `pixels`.
        """
        return LONGER * pixels + (LONGER - 1) * self.fixed

    def cost(self, pixels: float, instead: float) -> float:
        """How many times as long the same progress takes in steps of `pixels` as in steps of
        `instead`.
        """
        times = self._time(pixels) / self._time(instead)
        return times * self._progress(instead) / self._progress(pixels)

    def _time(self, pixels: float) -> float:
        """Of a step, in any unit; the same for all where no size takes longer than another."""
        fixed = self.fixed
        return 1.0 if math.isinf(fixed) else fixed + pixels

    def _progress(self, pixels: float) -> float:
        return pixels**self.power * math.sqrt(self.signal(pixels))
