#!/usr/bin/env python3
"""What can my card do? Tests, the memory automation, the planner, speed, playback, a training, data
and several cards, in one command:

python scripts/benchmarking/gpu_report.py --minutes 9 --out report

It writes report.md (a page), report.json (every figure) and pictures into the folder, anew after
each item. What is most likely to go wrong is measured first. Each item is a process of its own that
is ended when its share of the time is up; one that fails is a paragraph of the page. What an item
printed last is in the folder's `parts`.

The exit code is 0 if every item gave figures and none found a fault, else 1.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

MISSING_PACKAGE = "missing: pip install -r requirements.txt -r requirements-dev.txt"
try:
    from scripts.benchmarking.report.comparison import NoReportError, read_report, render_changes
    from scripts.benchmarking.report.machine import Machine, MachineError, ask, load_machine
    from scripts.benchmarking.report.page import render
    from scripts.benchmarking.report.pictures import draw_all
    from scripts.benchmarking.report.results import Notebook, write_json
    from scripts.benchmarking.report.running import Item, Report, run_items
except ModuleNotFoundError as missing:
    sys.exit(f"{missing}; {MISSING_PACKAGE}")

# Name, title, and seconds of nine minutes on a GPU and of two on a CPU: shares, in fact. The order
# is that of what most likely shows a fault where it was never run: the project's tests of the GPU,
# the automation on real memory, what it plans with, half precision and the compiler.
ITEMS = (
    ("tests", "the project's own tests", 85, 14),
    ("landing", "landing of the memory automation", 200, 34),
    ("planner", "the planner against measurement", 45, 24),
    ("steps", "steps of training per second", 75, 12),
    ("host", "the host's part of a step", 40, 13),
    ("playback", "playback", 55, 10),
    ("training", "a short training", 60, 36),
    ("data", "reading and degrading", 25, 16),
    ("processes", "several processes", 40, 24),
)
NAMES = tuple(name for name, *_ in ITEMS)
# Seconds of the whole that are kept for looking at the machine, the page and the pictures.
RESERVE_S = 5.0


def look_at_machine(path: Path, cpu: bool) -> Machine:
    """Ask, in a process of its own."""
    return ask(path, cpu=cpu)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=_minutes, default=9.0, help="for all of it (default: 9)")
    parser.add_argument(
        "--out", type=Path, default=Path("gpu_report"), help="the folder (default: gpu_report)"
    )
    parser.add_argument(
        "--items",
        type=_items,
        default=list(NAMES),
        metavar="A,B",
        help=f"these alone (default: all of {','.join(NAMES)})",
    )
    parser.add_argument(
        "--cpu", action="store_true", help="everything small, on the CPU; --minutes 2 is enough"
    )
    parser.add_argument(
        "--compare", type=Path, metavar="JSON", help="a former report.json: tell what changed"
    )
    # How this script calls itself for one item.
    parser.add_argument("--measure", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)
    parser.add_argument("--findings", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _minutes(text: str) -> float:
    value = float(text)
    # Beyond a day something else is meant.
    if not 0 < value <= 1440:
        raise argparse.ArgumentTypeError(f"{text}: expected minutes, above 0 and at most 1440")
    return value


def _items(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        wrong = ", ".join(unknown) or "nothing"
        raise argparse.ArgumentTypeError(f"{wrong}: expected some of {', '.join(NAMES)}")
    return names


def main(
    argv: Sequence[str] | None = None, *, look: Callable[[Path, bool], Machine] = look_at_machine
) -> int:
    """The exit code. `look` says what machine this is, given a path for it and whether only the CPU
    counts.
    """
    arguments = parse_arguments(argv)
    if arguments.measure is not None:
        return measure(arguments)
    given = sys.argv[1:] if argv is None else argv
    start = time.monotonic()
    parts: Path = arguments.out / "parts"
    try:
        former = None if arguments.compare is None else read_report(arguments.compare)
        parts.mkdir(parents=True, exist_ok=True)
        machine = look(parts / "machine.json", arguments.cpu)
    except OSError as error:
        return _refuse(f"{arguments.out} cannot be written: {error.strerror}; choose another --out")
    except (MachineError, NoReportError) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        return _refuse("interrupted before anything was measured")
    if machine.kind != "cuda" and not arguments.cpu:
        return _refuse(
            f"torch finds no CUDA or ROCm GPU on this machine ({machine.name}); --cpu measures "
            "everything small on the CPU"
        )
    report = Report(machine.facts, _command(given), arguments.minutes)
    left = 60 * arguments.minutes - (time.monotonic() - start) - RESERVE_S
    return make_report(_chosen(arguments, machine), left, arguments.out, report, former)


def make_report(
    items: Sequence[Item],
    seconds: float,
    folder: Path,
    report: Report,
    compared_with: Report | None = None,
) -> int:
    """Measure, and write after each item. The exit code."""

    def save(report: Report) -> None:
        draw_all(report, folder)
        write_json(folder / "report.json", report.as_json())
        page = render(report)
        if compared_with is not None:
            page += "\n" + render_changes(compared_with, report)
        (folder / "report.md").write_text(page, encoding="utf-8")

    # SIGINT too: a shell has it ignored by what it starts in the background.
    former = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        whole = run_items(items, seconds, folder / "parts", report, save)
    except OSError as error:
        return _refuse(f"{error.filename or folder} cannot be written: {error.strerror}")
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if not whole:
        print("interrupted; what was measured until then is written")
    good = sum(outcome.is_good for outcome in report.outcomes)
    print(f"{folder / 'report.md'}: {good} of {len(report.outcomes)} items are without fault")
    return 0 if report.is_good and whole else 1


def measure(arguments: argparse.Namespace) -> int:
    """One item, in the process that was started for it."""
    from scripts.benchmarking.report.task import Task

    end = time.monotonic() + arguments.seconds
    path: Path = arguments.findings
    notebook = Notebook(path)
    try:
        machine = load_machine(path.with_name("machine.json"))
        module = importlib.import_module(f"scripts.benchmarking.report.measure_{arguments.measure}")
        module.measure(Task(notebook, machine, end))
    except ModuleNotFoundError as missing:
        notebook.fault(f"{missing}; {MISSING_PACKAGE}")
        print(f"{missing}; {MISSING_PACKAGE}")
        return 1
    return 0


def _chosen(arguments: argparse.Namespace, machine: Machine) -> list[Item]:
    """The items that are wanted, in the order that is best for a report that is cut short."""

    def command(name: str, findings: Path, seconds: float) -> list[str]:
        script = [sys.executable, str(Path(__file__).resolve())]
        return [*script, "--measure", name, "--findings", str(findings.resolve()),
                "--seconds", f"{seconds:.1f}"]  # fmt: skip

    return [
        Item(
            name,
            title,
            on_gpu if machine.kind == "cuda" else on_cpu,
            lambda findings, seconds, name=name: command(name, findings, seconds),
        )
        for name, title, on_gpu, on_cpu in ITEMS
        if name in arguments.items
    ]


def _command(given: Sequence[str]) -> str:
    return shlex.join(["python", "scripts/benchmarking/gpu_report.py", *given])


def _stop(_number: int, _frame: FrameType | None) -> None:
    """A later one must not disturb the writing of what is there."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
