#!/usr/bin/env python3
"""Make a small video data set for a first training: a camera that moves over the photographs of
scikit-image.

GT is 256x192, LQ half of that after a real H.264 encoder. Below OUT:
{train,val}/{gt,lq_x2}/SCENE/NUMBER.png.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.progress import Progress

from traiNNer.demo.video import FRAMES, SCALE, make_demo_video
from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import console


def run(out: Path, overwrite: bool) -> int:
    """Make the data set and say what is there."""
    # Making it takes a while, so there is a bar; in a pipe its lines would only be noise.
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("scenes", total=None)
        is_new = make_demo_video(
            out,
            overwrite=overwrite,
            tell=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    train, val = (count_scenes(out / split / "gt") for split in ("train", "val"))
    print(
        f"{'made' if is_new else 'already there:'} {out}: {train} scenes for training, {val} for "
        f"validation, {FRAMES} frames each, scale {SCALE}"
    )
    return 0


def count_scenes(folder: Path) -> int:
    """How many scenes a folder holds, by their own folders."""
    return sum(path.is_dir() for path in folder.iterdir())


def main(argv: list[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path("datasets/demo_video")
    parser.add_argument(
        "-o", "--out", type=Path, default=default, help="where to write (default: %(default)s)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the files that are there already"
    )
    arguments = parser.parse_args(argv)
    return run_plainly(lambda: run(arguments.out, arguments.overwrite))


if __name__ == "__main__":
    sys.exit(main())
