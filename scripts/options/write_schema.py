#!/usr/bin/env python3
"""Write options/schema.json and options/schema_test.json, with which editors complete and check the
YAML files.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from traiNNer.options.reference import json_schema
from traiNNer.options.schema import TestOptions, TrainingOptions


def schema_files() -> dict[str, str]:
    """The files' texts by name."""
    models = {"schema.json": TrainingOptions, "schema_test.json": TestOptions}
    return {
        name: json.dumps(json_schema(model), indent=1, ensure_ascii=False) + "\n"
        for name, model in models.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path("options"), help="where to write (default: options)"
    )
    folder = parser.parse_args().folder
    for name, text in schema_files().items():
        (folder / name).write_text(text, encoding="utf-8")
        print(f"wrote {folder / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
