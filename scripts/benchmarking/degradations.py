#!/usr/bin/env python3
"""How fast LQ is made: megapixels of GT a second for each step, on one core, as a reading process
works; and the recipe realesrgan beside the plain way, in which a batch of 400 px crops is degraded
by tensors: one kernel of 21 px after the other, and JPEG as arithmetic.

The plain way is written here from its description (Wang et al., ICCVW 2021), with the same draws:
two orders of blur, resize, noise and JPEG, and the last sinc. It degrades 400 px whatever the crop
is; ours the crop and its margin. Times are the best of the rounds.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
import torch
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.data.degrading import DegradationRecipe
from traiNNer.engine.logs import print_table
from traiNNer.ops.degradations.base import Draws, Frames
from traiNNer.ops.degradations.blur import bell_kernel, sinc_kernel
from traiNNer.ops.traces import quantisers
from traiNNer.utils.device import choose_device, describe_device
from traiNNer.utils.registry import DEGRADATIONS
from traiNNer.utils.seeds import hash_seed

SCALE = 4
# The side of the plain way's crops, whatever is trained.
PLAIN_SIDE = 400
# LQ pixels around a crop of ours: 12 to each side, and 3.5 more in the mean at two of them.
MARGIN = 27.5


def picture(side: int, seed: int) -> Frames:
    """Waves and noise: nothing in a step is faster for what the picture shows."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / 20
    waves = np.stack([np.sin(x * f) * np.cos(y * g) for f, g in generator.uniform(0.3, 2, (3, 2))])
    noisy = 0.5 + 0.3 * waves + generator.normal(0, 0.03, waves.shape)
    return np.clip(noisy.transpose(1, 2, 0), 0, 1).astype(np.float32)[None]


class Plain:
    """The plain way, on batches (B, 3, H, W)."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        basis = [[math.cos((2 * x + 1) * u * math.pi / 16) / 2 for x in range(8)] for u in range(8)]
        self.dct = torch.tensor(basis)
        self.dct[0] /= math.sqrt(2)

    def blur(self, batch: Tensor, sigma: float) -> Tensor:
        """One kernel of 21 px for each sample."""
        done: list[Tensor] = []
        for sample in batch:
            if self.draw.random() < 0.1:
                kernel = sinc_kernel(21, self.draw.uniform(math.pi / 3, math.pi))
            else:
                along, across = self.draw.uniform(0.2, sigma, 2)
                kernel = bell_kernel(21, along, across, 1.0)
            weight = torch.from_numpy(kernel).float().expand(3, 1, 21, 21)
            padded = F.pad(sample[None], (10, 10, 10, 10), mode="reflect")
            done.append(F.conv2d(padded, weight, groups=3))
        return torch.cat(done)

    def resize(self, batch: Tensor, sides: tuple[int, int]) -> Tensor:
        """The whole batch by one factor."""
        mode = str(self.draw.choice(["area", "bilinear", "bicubic"]))
        return F.interpolate(batch, size=sides, mode=mode)

    def noise(self, batch: Tensor, sigma: float, scale: float) -> Tensor:
        """Gaussian or Poisson for the batch."""
        if self.draw.random() < 0.5:
            noise = torch.randn_like(batch) * self.draw.uniform(1, sigma) / 255
        else:
            levels = (batch.clamp(0, 1) * 255).round()
            noise = (torch.poisson(levels) - levels) / 255 * self.draw.uniform(0.05, scale)
        return (batch + noise).clamp(0, 1)

    def jpeg(self, batch: Tensor) -> Tensor:
        """Squares, cosines, rounding, and back; colours halved."""
        height, width = batch.shape[-2:]
        padded = F.pad(batch, (0, -width % 16, 0, -height % 16), mode="replicate") * 255
        red, green, blue = padded.unbind(1)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        colors = torch.stack([(blue - luma) * 0.564, (red - luma) * 0.713], 1)
        table = torch.from_numpy(quantisers(int(self.draw.integers(30, 96)))).float()
        luma = self._squares(luma[:, None] - 128, table)[:, 0] + 128
        halved = self._squares(F.avg_pool2d(colors, 2), table)
        colors = F.interpolate(halved, scale_factor=2, mode="bilinear")
        red = luma + 1.403 * colors[:, 1]
        blue = luma + 1.773 * colors[:, 0]
        green = (luma - 0.299 * red - 0.114 * blue) / 0.587
        made = torch.stack([red, green, blue], 1)[..., :height, :width]
        return (made / 255).clamp(0, 1)

    def _squares(self, planes: Tensor, table: Tensor) -> Tensor:
        count, channels, height, width = planes.shape
        squares = planes.reshape(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
        spectra = self.dct @ squares @ self.dct.T
        rounded = (spectra / table).round() * table
        back = self.dct.T @ rounded @ self.dct
        return back.transpose(3, 4).reshape(planes.shape)

    def recipe(self, batch: Tensor) -> Tensor:
        """Both orders."""
        lq = PLAIN_SIDE // SCALE
        side = round(PLAIN_SIDE * self.draw.uniform(0.15, 1.5))
        batch = self.resize(self.blur(batch, 3.0), (side, side))
        batch = self.jpeg(self.noise(batch, 30, 3.0))
        side = round(lq * self.draw.uniform(0.3, 1.2))
        batch = self.noise(self.resize(self.blur(batch, 1.5), (side, side)), 25, 2.5)
        batch = self.resize(batch, (lq, lq))
        return self.jpeg(self.blur(batch, 1.5))


def best(action: Callable[[int], Any], rounds: int) -> float:
    """Seconds of the fastest round."""
    times: list[float] = []
    for number in range(rounds):
        start = time.perf_counter()
        action(number)
        times.append(time.perf_counter() - start)
    return min(times)


def mean(action: Callable[[int], Any], rounds: int) -> float:
    """Seconds of a round in the mean: rounds draw different things."""
    start = time.perf_counter()
    for number in range(rounds):
        action(number)
    return (time.perf_counter() - start) / rounds


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--lq_size", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--steps", nargs="*", default=list(DEGRADATIONS), help="default: all")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    side = round((arguments.lq_size + MARGIN) * SCALE)
    frames = picture(side, 0)
    machine = f"one core of {describe_device(choose_device('auto'))}"
    table = Table(title=f"Megapixels a second, {side} px, {machine}")
    table.add_column("step")
    table.add_column("Mpx/s", justify="right")
    lq_sides = (side // SCALE, side // SCALE)
    for name in arguments.steps:
        step = DEGRADATIONS[name]()
        seconds = best(
            lambda number, step=step: step(frames.copy(), Draws(number, lq_sides)),
            arguments.rounds,
        )
        table.add_row(name, f"{side**2 / seconds / 1e6:.1f}")
    print_table(table)
    recipe = DegradationRecipe("realesrgan", SCALE, "bicubic")
    pieces = [picture(side, number) for number in range(arguments.batch)]
    plain = Plain(0)
    crops = [picture(PLAIN_SIDE, number) for number in range(arguments.batch)]
    batch = torch.from_numpy(np.concatenate(crops)).permute(0, 3, 1, 2).contiguous()

    def ours(number: int) -> None:
        for place, piece in enumerate(pieces):
            recipe(piece.copy(), hash_seed(number, place))

    table = Table(title=f"realesrgan, batch {arguments.batch}, lq_size {arguments.lq_size}")
    for column in ("", "ms a sample", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    seconds = mean(ours, arguments.rounds)
    theirs = mean(lambda _: plain.recipe(batch), arguments.rounds)
    for label, value in (("ours", seconds), ("plain", theirs)):
        per_sample = 1e3 * value / arguments.batch
        table.add_row(label, f"{per_sample:.1f}", f"{theirs / value:.2f}")
    print_table(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
