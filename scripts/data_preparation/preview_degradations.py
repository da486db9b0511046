#!/usr/bin/env python3
"""See what a recipe of degradations makes: a sheet of GT and, beside it, LQ drawn anew several
times (enlarged without smoothing), and a table of all that was drawn.

    python scripts/data_preparation/preview_degradations.py -opt options/otf_gan.yml

writes preview.png and preview.tsv: a line for each LQ of the sheet, by row and column.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from traiNNer.data.degraded import DegradedDataset
from traiNNer.data.sample import SampleRequest
from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import console, setup_logging
from traiNNer.engine.setup import open_dataset
from traiNNer.ops.color import to_float, to_uint8
from traiNNer.options.loading import load_options
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.images import write_image
from traiNNer.utils.seeds import hash_seed

log = logging.getLogger("traiNNer.preview_degradations")
# White pixels between two pictures.
_GAP = 4


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-opt", type=Path, required=True, help="the options, as for train.py")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--rows", type=int, default=5, help="pictures (default: %(default)s)")
    parser.add_argument("--columns", type=int, default=5, help="LQ of each (default: %(default)s)")
    parser.add_argument("--lq_size", type=int, default=None, help="default: that of the options")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("preview.png"), help="default: %(default)s"
    )
    return parser.parse_args(argv)


def as_picture(tensor: Tensor, factor: int = 1) -> NDArray[np.uint8]:
    """(3, h, w), or the frame in the middle of a clip (T, 3, h, w), as (h * factor, w * factor, 3),
    each pixel repeated.
    """
    middle = tensor[len(tensor) // 2] if tensor.ndim == 4 else tensor
    levels = to_uint8(to_float(middle)).permute(1, 2, 0).numpy()
    return levels.repeat(factor, 0).repeat(factor, 1)


def preview(arguments: argparse.Namespace) -> int:
    """Write the sheet and the table."""
    options = load_options(TrainingOptions, arguments.opt, arguments.overrides)
    section = options.datasets.train
    dataset = open_dataset(section, options.scale)
    if not isinstance(dataset, DegradedDataset):
        raise OptionsError(f"{section.type} reads LQ from the disk: there is nothing to preview")
    size = arguments.lq_size or section.lq_size
    dataset.require_lq_size(size)
    lines = ["row\tcolumn\timage\tdone"]
    rows: list[NDArray[np.uint8]] = []
    for row in range(arguments.rows):
        index = hash_seed(arguments.seed, row) % len(dataset)
        pictures: list[NDArray[np.uint8]] = []
        for column in range(arguments.columns):
            # The place of the crop is the row's, what is done to it the column's.
            place = SampleRequest(index, size, hash_seed(arguments.seed, row))
            lq, gt, done = dataset.read_with_history(place, drawn=column)
            if not pictures:
                pictures.append(as_picture(gt))
            pictures.append(as_picture(lq, options.scale))
            said = "; ".join(map(str, done)) or "nothing"
            lines.append(f"{row + 1}\t{column + 1}\t{dataset.lq_paths[index]}\t{said}")
        rows.append(joined(pictures, axis=1))
    write_image(arguments.out, joined(rows, axis=0))
    table = arguments.out.with_suffix(".tsv")
    write_atomic(table, ("\n".join(lines) + "\n").encode())
    console.print(f"{arguments.out}: GT at the left, LQ beside it; {table}: what was drawn")
    return 0


def joined(pictures: list[NDArray[np.uint8]], axis: int) -> NDArray[np.uint8]:
    """Pictures of equal size side by side (axis 1) or below each other, with a gap."""
    shape = list(pictures[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    return np.concatenate(parts, axis=axis)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    arguments = parse(argv)
    setup_logging()
    return run_plainly(lambda: preview(arguments))


if __name__ == "__main__":
    sys.exit(main())
