#!/usr/bin/env python3
"""Look at LQ pictures as they are met, and propose the recipe of degradations that makes such ones.

    python scripts/data_preparation/estimate_degradation.py real_lq/ --out real

measures blur, noise and JPEG of each picture in the folder, prints what it found, and writes

    real.yml   the recipe, for `degradations` in the options or make_lq.py --degradations
    real.png   pictures of the folder, and beside each a clean one to which the recipe was done

Clean pictures are those of --clean FOLDER; without it the same pictures shrunk by half, which hides
most of their damage. What is measured is the middle of each picture, in its own pixels. A blur
below 0.3 pixels, noise below 1 level of 255 and compression at qualities above 95 are not seen, and
JPEG hides noise that was there before.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import yaml
from numpy.typing import NDArray
from rich.table import Table

from traiNNer.data.degrading import DegradationRecipe
from traiNNer.data.scan import ScannedImage, scan_into
from traiNNer.data.shrinking import shrink
from traiNNer.data.walk import LeftOut
from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import console, setup_logging
from traiNNer.ops.traces import JpegTrace, find_blur, find_jpeg, find_noise, luma
from traiNNer.utils.errors import DataError, OptionsError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.images import Pixels, read_image, write_image
from traiNNer.utils.problems import Problems
from traiNNer.utils.text import plural

log = logging.getLogger("traiNNer.estimate_degradation")
# Side of what is looked at, in pixels: enough for each measure, and soon done.
_SIDE = 384
_LEAST_SIDE = 64
# What is below was there before, or is rounding.
_LEAST_BLUR = 0.3
_LEAST_NOISE = 1.0
# The part of the pictures, from the least to the most damaged, that ranges leave out at each end.
_OUTSIDE = 0.1
# Side of a picture on the sheet.
_SHOWN = 160
_GAP = 4


@dataclass(frozen=True, slots=True)
class Traces:
    """What was found in a picture. Blur is in pixels, noise in levels of 255."""

    name: str
    blur: float
    noise: float
    is_grey: bool
    jpeg: JpegTrace | None


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of LQ pictures, with its sub-folders")
    parser.add_argument("--clean", type=Path, metavar="FOLDER", help="good pictures, for the sheet")
    parser.add_argument(
        "--out", type=Path, default=Path("estimated"), help="without suffix (default: %(default)s)"
    )
    parser.add_argument(
        "--most", type=int, default=50, help="pictures to look at (default: %(default)s)"
    )
    return parser.parse_args(argv)


def middle(picture: Pixels, side: int) -> NDArray[np.uint8]:
    """The middle of a picture, at most `side` pixels to each side, in 256 levels. It begins where
    a square of 8 pixels does, so that its grids are the picture's.
    """
    height, width = picture.shape[:2]
    top = max(0, (height - side) // 2) // 8 * 8
    left = max(0, (width - side) // 2) // 8 * 8
    part = picture[top : top + side, left : left + side]
    return np.asarray(part // 257 if part.dtype == np.uint16 else part, dtype=np.uint8)


def look_at(name: str, picture: Pixels) -> Traces:
    """Measure one picture."""
    part = middle(picture, _SIDE)
    channels = part.astype(np.float64)
    noise = float(np.median([find_noise(channels[..., channel]) for channel in range(3)]))
    # Noise that is the same in all channels is not in their difference.
    between = find_noise(channels[..., 0] - channels[..., 1] + 128)
    plane = luma(part)
    return Traces(name, find_blur(plane, noise), noise, between < 0.5 * noise, find_jpeg(plane))


def ranges(values: list[float], digits: int) -> list[float]:
    """From the least to the most, without the outermost."""
    ends = np.quantile(values, [_OUTSIDE, 1 - _OUTSIDE])
    return [round(float(end), digits) for end in ends]


def propose(found: list[Traces]) -> list[dict[str, Any]]:
    """The recipe that makes such pictures: LQ's own pixels are damaged, so its size comes first."""
    steps: list[dict[str, Any]] = [{"type": "to_lq", "modes": ["bicubic"], "antialias": 1.0}]
    blurred = [traces.blur for traces in found if traces.blur >= _LEAST_BLUR]
    if blurred:
        steps.append({"type": "blur", "prob": share(blurred, found), "sigma": ranges(blurred, 2)})
    noisy = [traces for traces in found if traces.noise >= _LEAST_NOISE]
    if noisy:
        grey = sum(traces.is_grey for traces in noisy) / len(noisy)
        sigma = ranges([traces.noise for traces in noisy], 1)
        step = {"type": "gaussian_noise", "prob": share(noisy, found), "sigma": sigma}
        steps.append(step | {"grey": round(grey, 2)})
    packed = [traces.jpeg for traces in found if traces.jpeg is not None]
    if packed:
        quality = [round(end) for end in ranges([float(jpeg.quality) for jpeg in packed], 0)]
        step = {"type": "jpeg", "prob": share(packed, found), "quality": quality}
        shifted = sum(jpeg.grid != (0, 0) for jpeg in packed) / len(packed)
        steps.append(step | {"shifted": round(shifted, 2)})
    return steps


def share(some: list[Any], found: list[Traces]) -> float:
    """How many of the pictures these are."""
    return round(len(some) / len(found), 2)


def tell(found: list[Traces]) -> None:
    """Print what was found in each, and in all."""
    table = Table("picture", "blur, px", "noise, levels", "JPEG quality", "grid from", box=None)
    for traces in found:
        jpeg = traces.jpeg
        packed = ("none", "") if jpeg is None else (str(jpeg.quality), f"{jpeg.grid}")
        kind = " grey" if traces.is_grey and traces.noise >= _LEAST_NOISE else ""
        table.add_row(traces.name, f"{traces.blur:.2f}", f"{traces.noise:.1f}{kind}", *packed)
    console.print(table)
    rows = {
        "blur": [traces.blur for traces in found],
        "noise": [traces.noise for traces in found],
        "JPEG quality": [float(t.jpeg.quality) for t in found if t.jpeg is not None],
    }
    for name, values in rows.items():
        if values:
            least, half, most = np.quantile(values, [0.1, 0.5, 0.9])
            console.print(
                f"{name}: {half:.3g}, four in five from {least:.3g} to {most:.3g} "
                f"({plural(len(values), 'picture')})"
            )


def sheet(real: list[Pixels], clean: list[Pixels], recipe: DegradationRecipe) -> Pixels:
    """Real pictures, and beside each a clean one to which the recipe was done."""
    rows: list[NDArray[np.uint8]] = []
    for place, picture in enumerate(real):
        stand_in = middle(clean[place % len(clean)], _SHOWN).astype(np.float32) / 255
        simulated, _ = recipe(stand_in[None], place)
        row = np.full((_SHOWN, 2 * _SHOWN + _GAP, 3), 255, dtype=np.uint8)
        for left, shown in ((0, middle(picture, _SHOWN)), (_SHOWN + _GAP, simulated[0])):
            row[: shown.shape[0], left : left + shown.shape[1]] = shown
        rows += [row, np.full((_GAP, row.shape[1], 3), 255, dtype=np.uint8)]
    return np.concatenate(rows[:-1])


def find_pictures(folder: Path, most: int) -> list[ScannedImage]:
    """Some of the pictures of a folder, from all of it.

    Raises:
        DataError: if there are none that can be read.
    """
    problems = Problems()
    images = scan_into(folder, problems, LeftOut())
    problems.raise_if_any()
    large = [i for i in images if min(i.header.height, i.header.width) >= _LEAST_SIDE]
    if not large:
        raise DataError(f"{folder}: no picture has {_LEAST_SIDE} pixels to each side")
    step = max(1, len(large) // most)
    return large[::step][:most]


def estimate(arguments: argparse.Namespace) -> int:
    """Measure, print, and write recipe and sheet."""
    if arguments.most < 1:
        raise OptionsError(f"--most {arguments.most}: expected 1 or more")
    found: list[Traces] = []
    real: list[Pixels] = []
    for image in find_pictures(arguments.folder, arguments.most):
        picture = read_image(image.path)
        found.append(look_at(image.name, picture))
        if len(real) < 8:
            real.append(picture)
    tell(found)
    steps = propose(found)
    recipe = arguments.out.with_suffix(".yml")
    text = yaml.safe_dump(steps, sort_keys=False, default_flow_style=None)
    write_atomic(recipe, text.encode())
    if arguments.clean is None:
        clean = [shrink(p[: p.shape[0] // 2 * 2, : p.shape[1] // 2 * 2], 2, "box") for p in real]
    else:
        clean = [read_image(image.path) for image in find_pictures(arguments.clean, len(real))]
    picture = arguments.out.with_suffix(".png")
    write_image(picture, sheet(real, clean, DegradationRecipe(steps, 1, "bicubic")))
    console.print(f"\n{text}\n{recipe}: the recipe; {picture}: real pictures beside simulated ones")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    arguments = parse(argv)
    setup_logging()
    return run_plainly(lambda: estimate(arguments))


if __name__ == "__main__":
    sys.exit(main())
