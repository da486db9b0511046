#!/usr/bin/env python3
"""Decode the pictures of a training set ahead, and those that it is validated on where they fit as
well, so that the first epoch is as fast as the later ones (docs/datasets.md, Speed).

    python scripts/data_preparation/build_store.py -opt options/photo.yml

fills the folder that the run will read from, with cache: disk where the options say auto. It may be
stopped at any time, and goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.progress import track

from traiNNer.data.loader import eval_batches
from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import console, setup_logging
from traiNNer.engine.pixel_cache import plan_cache
from traiNNer.engine.setup import open_datasets
from traiNNer.options.loading import load_options
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import usable_cores
from traiNNer.utils.errors import OptionsError

# Elements of a batch: enough that handing one over costs nothing beside decoding it.
_BATCH = 4


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-opt", type=Path, required=True, help="the options, as for train.py")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="default: the cores")
    return parser.parse_args(argv)


def build(arguments: argparse.Namespace) -> int:
    """Fill the store."""
    options = load_options(TrainingOptions, arguments.opt, arguments.overrides)
    section = options.datasets.train
    if section.cache == "none":
        raise OptionsError("datasets.train.cache is none: nothing is to be kept")
    train_set, val_sets = open_datasets(options)
    asked = section.model_copy(update={"cache": "disk"})
    cache = plan_cache(asked, train_set, val_sets.values())
    console.print(cache.summary)
    if cache.store is None:
        return 0
    cache.open()
    cache.store.stop_waiting()
    # A small crop of each: the whole picture is decoded for it, and little is handed over.
    side = min(8, train_set.largest_lq_size)
    batches = eval_batches(train_set, arguments.workers, lq_size=side, size=_BATCH)
    number = -(-len(train_set) // _BATCH)
    for _ in track(batches, "decoding", total=number, console=console):
        pass
    for images in val_sets.values():
        if images in cache.evaluated:
            whole = eval_batches(images, arguments.workers)
            for _ in track(whole, "to validate on", total=len(images), console=console):
                pass
    there = "all" if cache.is_complete() else "not all"
    console.print(f"{there} of them are there now")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    arguments = parse(argv)
    setup_logging()
    return run_plainly(lambda: build(arguments))


if __name__ == "__main__":
    sys.exit(main())
