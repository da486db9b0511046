#!/usr/bin/env python3
"""Write docs/options.md and docs/features.md from the schema and the registries."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from traiNNer.options.features import features_page
from traiNNer.options.reference import options_page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path("docs"), help="where to write (default: docs)"
    )
    folder = parser.parse_args().folder
    for name, page in (("options.md", options_page), ("features.md", features_page)):
        (folder / name).write_text(page(), encoding="utf-8")
        print(f"wrote {folder / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
