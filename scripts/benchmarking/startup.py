#!/usr/bin/env python3
"""How long `train.py --check` takes on many pairs of small images: without and with the header
cache.

Each figure is the whole command, Python's start and the imports included; the imports' share is
printed besides.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support import small_options  # noqa: E402 (after the path)


def make_pairs(root: Path, count: int) -> None:
    """`count` pairs of 128 px GT and 64 px LQ, each file with its own content."""
    generator = np.random.default_rng(0)
    for folder, side in (("gt", 128), ("lq", 64)):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            flat = generator.integers(0, 256, 3, dtype=np.uint8)
            cv2.imwrite(str(root / folder / f"{number:06}.png"), np.full((side, side, 3), flat))


def timed_command(command: list[str], environment: dict[str, str]) -> float:
    """Seconds of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(
        command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument(
        "--network", default="compact", help="name in the catalogue (default: compact)"
    )
    parser.add_argument(
        "--repeat", type=int, default=3, help="measurements with the cache (default: 3)"
    )
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_pairs(root, arguments.pairs)
        options = small_options(root, network_g={"type": arguments.network})
        (root / "options.yml").write_text(yaml.safe_dump(options))
        environment = os.environ | {
            "XDG_CACHE_HOME": str(root / "cache"),
            "LOCALAPPDATA": str(root / "cache"),
        }
        check = [
            sys.executable,
            str(ROOT / "train.py"),
            "-opt",
            str(root / "options.yml"),
            "--check",
        ]
        timed_command(
            [sys.executable, "-c", "import torch, spandrel"], environment
        )  # the disk's cache is warm after
        imports = min(
            timed_command([sys.executable, "-c", "import torch"], environment)
            for _ in range(arguments.repeat)
        )
        spandrel = min(
            timed_command([sys.executable, "-c", "import torch, spandrel"], environment)
            for _ in range(arguments.repeat)
        )
        cold = timed_command(check, environment)
        cached = [timed_command(check, environment) for _ in range(arguments.repeat)]
    print(f"{arguments.pairs:,} pairs, {arguments.network}")
    print(f"train.py --check without the header cache  {cold:6.2f} s")
    print(
        f"train.py --check with it                   {min(cached):6.2f} s (of "
        f"{', '.join(f'{c:.2f}' for c in cached)})"
    )
    print(f"of which: python and import torch          {imports:6.2f} s")
    print(f"          import spandrel                  {spandrel - imports:6.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
