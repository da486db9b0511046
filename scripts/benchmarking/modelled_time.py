#!/usr/bin/env python3
"""train.py by a clock of its own: a step takes as long as a device would that needs a fixed part
for every step and a constant time for each pixel; all else is as it is, and takes no time.

So runs of the same modelled length are compared without the machine's noise, several at a time, and
as on a device whose small steps leave it idle:

    python scripts/benchmarking/modelled_time.py --idle-pixels 65536 --rate 3e6 -opt FILE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from traiNNer import train
from traiNNer.engine import session
from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import setup_logging
from traiNNer.engine.part import Part
from traiNNer.engine.preparation import prepared
from traiNNer.engine.run import Run
from traiNNer.models import StepResult


class ModelledTime(Part):
    """Has the run's clock show what its steps would have taken.

    Args:
        idle_pixels: LQ pixels that could be worked on in the fixed part of a step.
        rate: LQ pixels a second besides.
    """

    name = "modelled_time"

    def __init__(self, idle_pixels: float, rate: float) -> None:
        self.seconds = 0.0
        self._idle_pixels = idle_pixels
        self._rate = rate

    def start(self, run: Run) -> None:
        run.clock.shape_speed.now = lambda: self.seconds
        step = run.recipe.step

        def timed(*arguments: object, **named: object) -> StepResult:
            result = step(*arguments, **named)  # type: ignore[arg-type]
            # A look at the noise goes through the network in two halves.
            passes = 1 if result.alignment is None else 2
            self.seconds += (passes * self._idle_pixels + result.pixels) / self._rate
            return result

        run.recipe.step = timed


def main() -> int:
    """Train by that clock."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--idle-pixels", type=float, required=True)
    parser.add_argument("--rate", type=float, required=True, help="LQ pixels a second")
    arguments, rest = parser.parse_known_args()
    clock = ModelledTime(arguments.idle_pixels, arguments.rate)
    request = train.make_request(train.parse_arguments(rest))
    with prepared(request) as job:
        return session.train(job, more_parts=[clock])


if __name__ == "__main__":
    setup_logging()
    sys.exit(run_plainly(main))
