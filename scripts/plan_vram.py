#!/usr/bin/env python3
"""Say what a training run takes, and what fits on which card, before it runs and without a GPU:

python scripts/plan_vram.py -opt options/demo.yml --vram 8 12 24
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.table import Table

from traiNNer.engine.command_line import make_runtime, run_plainly
from traiNNer.engine.logs import print_table, setup_logging
from traiNNer.engine.progress import duration
from traiNNer.utils.text import GIB, MIB, plural

if TYPE_CHECKING:
    from traiNNer.options.schema import TrainingOptions
    from traiNNer.planning.planner import CardPlan, MemoryPlan
    from traiNNer.utils.shape import Shape

CARDS_GIB = (8.0, 12.0, 16.0, 24.0)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "-opt", metavar="FILE", type=Path, required=True, help="the options, a YAML file"
    )
    parser.add_argument(
        "--vram",
        metavar="GIB",
        type=positive,
        nargs="+",
        help="memory of each card in GiB (default: vram_limit_gib, else 8 12 16 24)",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="set one option, as --set use_amp=true (repeatable)",
    )
    parser.add_argument(
        "--largest-lq",
        metavar="PX",
        type=side,
        help="side in LQ pixels of the largest patch, instead of what the images allow",
    )
    parser.add_argument(
        "--trial",
        action="store_true",
        help="make a few steps on this machine, and say how long the run takes on it",
    )
    return parser.parse_args(argv)


def positive(text: str) -> float:
    """A number above 0 and below a million."""
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: expected GiB above 0")
    return value


def side(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected at least 1")
    return value


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 done, 2 wrong options or data, 1 anything else."""
    arguments = parse_arguments(argv)
    setup_logging()
    return run_plainly(lambda: show(arguments))


def show(arguments: argparse.Namespace) -> int:
    """Plan and print."""
    from traiNNer.options.loading import load_options
    from traiNNer.options.schema import TrainingOptions
    from traiNNer.planning.planner import find_images, plan_card, plan_memory

    options = load_options(TrainingOptions, arguments.opt, arguments.overrides)
    limit = options.vram_limit_gib
    cards = arguments.vram or ([limit] if limit is not None else CARDS_GIB)
    images = find_images(options, arguments.largest_lq)
    plan = plan_memory(options, images)
    cards = [plan_card(plan, round(card * GIB)) for card in sorted(set(cards))]
    print_table(parts_table(plan))
    print_table(cards_table(plan, cards))
    if plan.stages:
        print_table(stages_table(plan, [card.card for card in cards]))
    for note in notes(plan):
        print(f"- {note}")
    if arguments.trial:
        print(f"- {trial(options)}")
    return 0


def trial(options: TrainingOptions) -> str:
    """How fast this machine is, and what that means for the run."""
    from traiNNer.options.length import expected_seconds
    from traiNNer.planning.trial import trial_work

    runtime = make_runtime(options)
    work = trial_work(options, runtime)
    rate = (
        f"{plural(work.iterations, 'step')} on this machine ({runtime}) at the sizes of the "
        f"options: {work.iterations / work.seconds:.3g} it/s, "
        f"{work.pixels / work.seconds / 1e6:.3g} LQ megapixels a second"
    )
    seconds = expected_seconds(options.length, work)
    if seconds is None:
        return rate
    return f"{rate}; {options.length} take about {duration(seconds)}, reading and validation apart"


def parts_table(plan: MemoryPlan) -> Table:
    """What is there whatever the shape is, and what pixels take."""
    from traiNNer.planning.planner import straight_line

    options = plan.options
    fixed = plan.fixed
    train = options.train
    table = Table(
        title=f"{options.name}: {options.network_g.type}, scale {options.scale}, {precision(plan)}"
    )
    table.add_column("memory")
    table.add_column("MiB", justify="right")
    averaged = f"decay {train.ema_decay}" if train.ema_decay else "off"
    rows = {
        "weights": fixed.weights,
        "buffers": fixed.buffers,
        "gradients": fixed.gradients,
        f"optimizer state ({train.optim_g.type})": fixed.optimizer_state,
        f"moving average ({averaged})": fixed.moving_average,
        "fixed, in all": fixed.total,
    }
    for name, size in rows.items():
        table.add_row(name, f"{size / MIB:.2f}", end_section=size is fixed.moving_average)
    table.add_section()
    table.add_row(
        "activations, for each 1,000 LQ pixels", f"{1000 * straight_line(plan)[1] / MIB:.2f}"
    )
    table.add_row(
        f"a step of the options ({plan.start})", f"{plan.track(plan.start).peak / MIB:.2f}"
    )
    return table


def cards_table(plan: MemoryPlan, cards: list[CardPlan]) -> Table:
    """What each card can train."""
    table = Table(title=f"at {plan.target:.0%} of the card")
    for name in ("card GiB", "CUDA GiB", "lq_size", "batch", "step GiB", "predicted", "tracked"):
        table.add_column(name, justify="right")
    table.add_column("x pixels", justify="right")
    table.add_column("iterations", justify="right")
    table.add_column("bounded by")
    for card in cards:
        shape = card.shape
        bound = card.bound
        if card.shape is None or card.needs > card.card:
            least = f"{card.needs / GIB:.2f} GiB for {plan.target:.0%}"
            bound = f"{bound}; needs a card of at least {least}"
        table.add_row(
            f"{card.card / GIB:g}",
            f"{card.context / GIB:.2f}",
            "-" if shape is None else str(shape.lq_size),
            "-" if shape is None else str(shape.batch_size),
            f"{card.step / GIB:.2f}",
            f"{card.expected_share:.1%}" if card.expected else "-",
            f"{card.share:.1%}",
            *meaning(plan, shape),
            bound,
        )
    return table


def stages_table(plan: MemoryPlan, cards: list[int]) -> Table:
    """The batch of each stage on each card."""
    from traiNNer.planning.planner import plan_card

    table = Table(title="batches of the stages")
    for name in ("stage", "lq_size", "until"):
        table.add_column(name, justify="right")
    for card in cards:
        table.add_column(f"{card / GIB:g} GiB", justify="right")
    for number, stage in enumerate(plan.stages, 1):
        fitted = [plan_card(plan, card, lq_size=stage.size).shape for card in cards]
        batches = ["-" if shape is None else str(shape.batch_size) for shape in fitted]
        table.add_row(str(number), str(stage.size), f"{stage.until:.0%}", *batches)
    return table


def meaning(plan: MemoryPlan, shape: Shape | None) -> tuple[str, str]:
    """What the shape means for the run: pixels of an iteration against the options', iterations of
    a run that has it from beginning to end.
    """
    if shape is None:
        return "-", "-"
    options = plan.options
    length = options.length
    samples = 1.0
    if options.train.effective_batch_size is None:
        samples = shape.batch_size / options.datasets.train.batch_size_per_gpu
    pixels = samples * (shape.lq_size / options.datasets.train.lq_size) ** 2
    steps = {"total_samples": length.steps / samples, "total_mpixels": length.steps / pixels}
    if length.key == "total_hours":
        return f"{pixels:.3g}", "-"
    return f"{pixels:.3g}", f"{max(1, round(steps.get(length.key, length.steps))):,}"


def notes(plan: MemoryPlan) -> list[str]:
    """What a reader has to know beside the figures."""
    options = plan.options
    is_longer = options.length.key == "total_iter"
    texts = [plan.images.note] if plan.images.note else []
    longer = ", so it takes about so many times as long" if is_longer else ""
    texts.append(
        "x pixels is what an iteration has against that of the options; the run is "
        f"{options.length} long{longer}"
    )
    if options.use_compile:
        texts.append("use_compile is left out of the account: the plan is of the network as it is")
    texts.append(
        "CUDA GiB is an assumption about the context; workspaces of convolutions, what the "
        "allocator holds in reserve and other programs come on top. The automation measures all of "
        "these while it trains."
    )
    return texts


def precision(plan: MemoryPlan) -> str:
    """fp32, bf16 or fp16."""
    from traiNNer.planning.step_memory import planned_runtime

    return planned_runtime(plan.options).precision


if __name__ == "__main__":
    sys.exit(main())
