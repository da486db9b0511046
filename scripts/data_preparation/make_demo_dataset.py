#!/usr/bin/env python3
"""Make a small data set for a first training from the photographs inside the scikit-image
package.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from traiNNer.data.scan import scan_folder
from traiNNer.demo.photographs import make_demo_dataset
from traiNNer.utils.errors import TraiNNerError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--root", type=Path, default=Path("datasets/demo"), help="where to (default: %(default)s)"
    )
    root = parser.parse_args().root
    # Not by run_plainly, which imports the engine: this one is a matter of a second.
    try:
        is_new = make_demo_dataset(root)
        train, val = (len(scan_folder(root / split / "gt")) for split in ("train", "val"))
    except TraiNNerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(
        f"{'made' if is_new else 'already there:'} {root}: {train} pairs for training, {val} for "
        "validation, scale 2"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
