#!/usr/bin/env python3
"""Set checkpoints beside each other on pictures: a sheet, and a table where there is GT.

python scripts/compare.py A.safetensors B.safetensors --lq photographs
python scripts/compare.py A.safetensors B.pth --lq val/lq --gt val/gt
python scripts/compare.py A.safetensors --gt photographs

With GT alone, LQ is made of it by bicubic downscaling.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from traiNNer.archs.facts import NetworkFacts
from traiNNer.engine.command_line import make_runtime, run_plainly
from traiNNer.engine.logs import print_table, setup_logging
from traiNNer.engine.report import BICUBIC, compare, comparison_table, save_sheet
from traiNNer.engine.scoring import build_metrics
from traiNNer.engine.setup import open_dataset
from traiNNer.inference.failures import Failures
from traiNNer.inference.network import RunningNetwork, open_network
from traiNNer.options.schema import TestOptions
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.problems import Problems

# As in options/test.yml: whole pictures may be of any size, and more than a card holds.
TILE_SIZE = 256


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", metavar="FILE", nargs="+", type=Path, help="weights")
    parser.add_argument("--lq", metavar="FOLDER", type=Path, help="pictures to enlarge")
    parser.add_argument("--gt", metavar="FOLDER", type=Path, help="what should come of them")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        default=Path("comparison.png"),
        help="the sheet (%(default)s)",
    )
    parser.add_argument(
        "--rows", metavar="N", type=int, default=6, help="pictures on the sheet (%(default)s)"
    )
    parser.add_argument(
        "--tile",
        metavar="N",
        type=int,
        default=TILE_SIZE,
        help="side of the tiles in LQ pixels, 0 for whole pictures (%(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 done, 2 what does not go together, or pictures that could not be read."""
    arguments = parse_arguments(argv)
    setup_logging()
    return run_plainly(lambda: compare_checkpoints(arguments))


def compare_checkpoints(arguments: argparse.Namespace) -> int:
    """Open, enlarge, judge, draw."""
    if arguments.lq is None and arguments.gt is None:
        raise OptionsError("--lq FOLDER or --gt FOLDER (or both): the pictures to compare on")
    if arguments.output.suffix != ".png":
        raise OptionsError(f"--output {arguments.output}: expected a name that ends in .png")
    if arguments.rows < 1 or arguments.tile < 0:
        raise OptionsError("--rows: expected at least 1; --tile: expected 0 or more")
    names = short_names(arguments.checkpoints)
    options = [make_options(path, arguments) for path in arguments.checkpoints]
    runtime = make_runtime(options[0])
    networks = {
        name: RunningNetwork.start(open_network(own), own, runtime)
        for name, own in zip(names, options, strict=True)
    }
    facts = [network.facts for network in networks.values()]
    require_alike(names, facts)
    unusable = Problems()
    dataset = open_dataset(options[0].datasets.evaluated["test"], facts[0].scale, unusable)
    metrics = build_metrics(options[0].val.metrics, facts[0].scale)
    failures = Failures()
    failures.extend(unusable.examples)
    folder = arguments.gt if arguments.lq is None else arguments.lq
    comparison = compare(
        folder.name, dataset, networks, metrics, failed=failures.add, rows=arguments.rows
    )
    if comparison.results[BICUBIC].images:
        print_table(comparison_table(comparison, metrics))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    save_sheet(arguments.output, comparison.sheet)
    print(f"comparison sheet: {arguments.output}")
    failures.raise_if_any()
    return 0


def make_options(checkpoint: Path, arguments: argparse.Namespace) -> TestOptions:
    """What test.py would read for this checkpoint and these folders."""
    section: dict[str, Any] = {"type": "SingleImageDataset", "dataroot_lq": str(arguments.lq)}
    if arguments.lq is None:
        section = {"type": "SingleGtDataset", "dataroot_gt": str(arguments.gt)}
    elif arguments.gt is not None:
        section |= {"type": "PairedImageDataset", "dataroot_gt": str(arguments.gt)}
    # Tiles overlap by 16 pixels, and no more than they can.
    overlap = min(16, max(0, arguments.tile // 2 - 1))
    return TestOptions.model_validate(
        {
            "name": "compare",
            "datasets": {"test": section},
            "path": {"pretrain_network_g": str(checkpoint)},
            "val": {"tile_size": arguments.tile, "tile_overlap": overlap},
        }
    )


def short_names(paths: Sequence[Path]) -> list[str]:
    """The files' names, or where these are alike, the parts of their paths that differ.

    Raises:
        OptionsError: if one file is named twice.
    """
    whole = [path.resolve() for path in paths]
    if len(set(whole)) < len(whole):
        raise OptionsError("one checkpoint is given twice; there is nothing to compare in it")
    stems = [path.stem for path in whole]
    if len(set(stems)) == len(stems):
        return stems
    parts = [path.with_suffix("").parts for path in whole]
    while len({each[0] for each in parts}) == 1:
        parts = [each[1:] for each in parts]
    while min(map(len, parts)) > 1 and len({each[-1] for each in parts}) == 1:
        parts = [each[:-1] for each in parts]
    return ["/".join(each) for each in parts]


def require_alike(names: Sequence[str], facts: Sequence[NetworkFacts]) -> None:
    """Refuse networks that make pictures of different sizes, or none of single pictures.

    Raises:
        OptionsError: naming them.
    """
    for name, each in zip(names, facts, strict=True):
        if each.temporal:
            raise OptionsError(f"{name} takes clips; compare it with test.py on a film")
        if each.scale != facts[0].scale:
            raise OptionsError(
                f"{names[0]} enlarges {facts[0].scale} times and {name} {each.scale} times; only "
                "networks of one scale can be compared"
            )


if __name__ == "__main__":
    sys.exit(main())
