#!/usr/bin/env python3
"""Another program takes main memory beside a real training on the CPU: when it is seen, when steps
become smaller, and whether they become large again.

    python scripts/benchmarking/pressure_real.py

The demo's network trains on its photographs, in a temporary folder. A second process takes 2 GiB
after some steps and frees them later. So that this is pressure on a machine with much memory, a
third one holds all but 4.5 GiB of it before; 2.5 GiB remain free all the time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import train
from traiNNer.automations.cpu_memory import available_bytes
from traiNNer.engine import session
from traiNNer.engine.logs import setup_logging
from traiNNer.engine.memory_fit import MemoryFit
from traiNNer.engine.part import Part
from traiNNer.engine.preparation import prepared
from traiNNer.engine.run import Run
from traiNNer.models import StepResult
from traiNNer.utils.text import GIB

ROOT = Path(__file__).resolve().parents[2]
# Takes the memory, says so, and frees it at the end of its input.
GUEST = "import sys; held = b'x' * int(sys.argv[1]); print('taken', flush=True); sys.stdin.read()"

# What is left free beside the training and before the other program comes.
FREE_GIB = 4.5


class Guest(Part):
    """The other program, and what the run made of it."""

    name = "guest"

    def __init__(self, size: int, begin: int, end: int) -> None:
        self.size = size
        self.begin = begin
        self.end = end
        self.program: subprocess.Popen[str] | None = None
        self.taken_at: tuple[float, int] | None = None
        self.seen_s: float | None = None
        self.answered: int | None = None
        self.batches: list[int] = []

    def after_step(self, run: Run, result: StepResult) -> None:
        """Begin and end the other program; note when it was seen and answered."""
        self.batches.append(result.shape.batch_size)
        (fit,) = [part for part in run.parts if isinstance(part, MemoryFit)]
        level = fit.automations.scalars()["pressure/level"]
        if run.iteration == self.begin:
            self._take()
        elif run.iteration == self.end and self.program is not None:
            self.program.communicate()
        if self.taken_at is not None:
            since, step = self.taken_at
            if self.seen_s is None and level > 0:
                self.seen_s = time.monotonic() - since
            if self.answered is None and self.batches[-1] < self.batches[step - 1]:
                self.answered = run.iteration - step

    def _take(self) -> None:
        self.program = hold(self.size)
        self.taken_at = (time.monotonic(), self.begin)


def hold(size: int) -> subprocess.Popen[str]:
    """A program that holds so many bytes until its input ends."""
    program = subprocess.Popen(
        [sys.executable, "-c", GUEST, str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    program.stdout.readline()
    return program


def main(argv: list[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=2.0, help="what the other program takes")
    arguments = parser.parse_args(argv)
    setup_logging()
    # Half a GiB less than the 3 that are wanted is high, and halves the batch.
    automations = (
        "{enabled: true, MemoryPressureController: {target_headroom_gib: 3, poll_hz: 10, kp: 3, "
        "ki: 0, kd: 0, levels: {moderate: 0.95, high: 0.9}, max_batch_size: 16}}"
    )
    filler = hold(max(0, int(available_bytes() - FREE_GIB * GIB)))
    free = available_bytes() / GIB
    guest = Guest(int(arguments.gib * GIB), 100, 180)
    os.chdir(tempfile.mkdtemp(prefix="pressure_"))
    request = train.make_request(
        train.parse_arguments([
            *("-opt", str(ROOT / "options/demo.yml"), "--set", "num_gpu=0"),
            *("--set", "vram_limit_gib=16", "--set", "train.total_mpixels=null"),
            *("--set", "train.total_iter=300", "--set", "train.ema_half_life=null"),
            *("--set", "val={val_enabled: false}", "--set", "logger={print_freq: 50}"),
            *("--set", "datasets.train.num_worker_per_gpu=0"),
            *("--set", f"training_automations={automations}"),
        ])
    )  # fmt: skip
    try:
        with prepared(request) as job:
            code = session.train(job, more_parts=[guest])
    finally:
        filler.communicate()
    before = max(guest.batches[guest.begin - 10 : guest.begin])
    during = min(guest.batches[guest.begin : guest.end])
    after = max(guest.batches[guest.end :])
    seen = "not seen" if guest.seen_s is None else f"seen after {guest.seen_s:.2f} s"
    print(
        f"{arguments.gib:g} of {free:.1f} GiB that were free taken: {seen}, answered after "
        f"{guest.answered} steps; batch {before} before, {during} beside it, {after} after it; "
        f"the run ended with {code}"
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
