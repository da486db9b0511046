#!/usr/bin/env python3
"""Turn an options file of traiNNer-redux, neosr (YAML or TOML) or BasicSR into one of ours.

    python scripts/options/from_neighbours.py their.yml mine.yml

What has another form here is rewritten: degradations that are made while training, losses,
augmentations that mix, the discriminator. What has another name is renamed, and what is not part of
this version is left out. Every change is told in one line. The result is checked; the folders that
it names are not, for which `python train.py -opt mine.yml --check` is there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import yaml
from rich.table import Table

from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import console, print_table, setup_logging
from traiNNer.options.converting import convert
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.text import plural


def read(path: Path) -> dict[str, Any]:
    """The file's values.

    Raises:
        OptionsError: if it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, tomllib.TOMLDecodeError) as error:
        raise OptionsError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise OptionsError(f"{path} holds no options: expected keys with values")
    return values


def run(arguments: argparse.Namespace) -> int:
    """Convert, tell, and write."""
    if arguments.ours.exists():
        raise OptionsError(f"{arguments.ours} exists; name a new file")
    result = convert(read(arguments.theirs))
    table = Table("key", "what became of it", box=None)
    for key, words in result.notes:
        table.add_row(key, words)
    print_table(table)
    if result.problems:
        listed = "\n  ".join(result.problems)
        raise OptionsError(f"{arguments.theirs}: this has to be mended by hand:\n  {listed}")
    # By way of JSON: what stands in two places is written twice, and not as an alias.
    values = json.loads(json.dumps(result.values))
    text = yaml.safe_dump(
        values, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )
    write_atomic(arguments.ours, text.encode())
    console.print(f"{arguments.ours}: written, {plural(len(result.notes), 'change')}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("theirs", type=Path, help="their file")
    parser.add_argument("ours", type=Path, help="where to write ours")
    arguments = parser.parse_args(argv)
    setup_logging()
    return run_plainly(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
