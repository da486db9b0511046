#!/usr/bin/env python3
"""Moving averages of other widths, when the run is over:

python scripts/posthoc_average.py experiments/photo --widths 0.03 0.08 0.15 -o averages

The run has to have `train.ema_widths: [0.05, 0.1]`, which keeps two power-law averages; each
checkpoint that is left counts, so `logger.keep_weights: true` belongs to it. A width is the
standard deviation of the times at which the network was taken, by what they count, as a share of
the run. Files are named net_g_w0.08.safetensors; which is best `test.py` tells, or the eye.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from scripts.average_weights import write_average
from traiNNer.archs.loading import read_metadata
from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import setup_logging
from traiNNer.models.power_average import WIDEST, Profile, shares_for
from traiNNer.utils.errors import CheckpointError, OptionsError

# Of a wanted profile: where a tenth of it was missed, the average of a random walk was off by 3 %
# of its way from the walk's end.
MUCH_MISSED = 0.1


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the run's folder")
    parser.add_argument("--widths", metavar="W", nargs="+", type=float, required=True)
    parser.add_argument("--network", default="net_g", help="its name (default: net_g)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 done, 2 widths or checkpoints of which none can be made."""
    arguments = parse_arguments(argv)
    setup_logging()
    return run_plainly(lambda: make_averages(arguments))


def make_averages(arguments: argparse.Namespace) -> int:
    """One file for each width, as of the last checkpoint."""
    for width in arguments.widths:
        if not 0 < width < WIDEST:
            raise OptionsError(f"--widths: {width:g}; expected above 0 and below {WIDEST:.3f}")
    kept = kept_averages(arguments.run, arguments.network)
    end = max(profile.done for profile in kept.values())
    paths = list(kept)
    for width in arguments.widths:
        shares, missed = shares_for(Profile(end, width), list(kept.values()))
        output = arguments.output / f"{arguments.network}_w{width:g}.safetensors"
        write_average(output, paths, shares)
        if missed > MUCH_MISSED:
            print(
                f"  {100 * missed:.0f} % of that profile is missed: more checkpoints, or "
                "train.ema_widths nearer to it, would meet it"
            )
    return 0


def kept_averages(run: Path, network: str) -> dict[Path, Profile]:
    """The power-law averages of a run that are left.

    Raises:
        CheckpointError: if there are none.
    """
    kept: dict[Path, Profile] = {}
    for path in sorted((run / "models").glob(f"{network}_ema_w*_*.safetensors")):
        facts = read_metadata(path)
        if "ema_width" in facts and "done" in facts:
            kept[path] = Profile(float(facts["done"]), float(facts["ema_width"]))
    if not kept:
        raise CheckpointError(
            f"{run / 'models'} has no power-law averages of {network}; train with "
            "train.ema_widths: [0.05, 0.1] and logger.keep_weights: true"
        )
    return kept


if __name__ == "__main__":
    with torch.no_grad():
        sys.exit(main())
