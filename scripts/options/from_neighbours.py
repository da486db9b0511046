#!/usr/bin/env python3
"""Turn an options file of traiNNer-redux, neosr (YAML or TOML) or BasicSR into one of ours.

    python scripts/options/from_neighbours.py their.yml mine.yml

What has another form here is rewritten: degradations that are made while training, losses,
augmentations that mix, the discriminator. What has another name is renamed, and what is not part of
this version is left out. Every change is told in one line. The result is checked; the folders that
it names are not, for which `python train.py -opt mine.yml --check` is there. Of a folder, all files
are converted, and how many pass is told. The exit code is 0 where all do.
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
from traiNNer.options.converting import Converted, convert
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.text import plural

_SUFFIXES = (".yml", ".yaml", ".toml")


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


def find_files(folder: Path) -> list[Path]:
    """All options files of a folder, sub-folders included.

    Raises:
        OptionsError: if there are none.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES)
    if not files:
        raise OptionsError(f"{folder} holds no files {', '.join(_SUFFIXES)}")
    return files


def convert_file(theirs: Path, ours: Path) -> Converted:
    """Convert one, and write it, where it passes the check.

    Raises:
        OptionsError: if it cannot be read, or something is in the way.
        DiskError: if it cannot be written.
    """
    if ours.exists():
        raise OptionsError(f"{ours} exists; name a new file")
    result = convert(read(theirs))
    if not result.problems:
        # By way of JSON: what stands in two places is written twice, and not as an alias.
        values = json.loads(json.dumps(result.values))
        text = yaml.safe_dump(
            values, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
        )
        write_atomic(ours, text.encode())
    return result


def run_one(theirs: Path, ours: Path) -> int:
    """Convert a file, and tell every change."""
    result = convert_file(theirs, ours)
    table = Table("key", "what became of it", box=None)
    for key, words in result.notes:
        table.add_row(key, words)
    print_table(table)
    if result.problems:
        listed = "\n  ".join(result.problems)
        raise OptionsError(f"{theirs}: this has to be mended by hand:\n  {listed}")
    console.print(f"{ours}: written, {plural(len(result.notes), 'change')}")
    return 0


def run_many(theirs: Path, ours: Path) -> int:
    """Convert the files of a folder, and tell how many pass the check."""
    table = Table("file", "changes", "", box=None)
    passed = 0
    files = find_files(theirs)
    for path in files:
        name = path.relative_to(theirs)
        try:
            result = convert_file(path, (ours / name).with_suffix(".yml"))
        except OptionsError as error:
            table.add_row(str(name), "", str(error))
            continue
        passed += not result.problems
        words = "; ".join(result.problems) or "passes"
        table.add_row(str(name), str(len(result.notes)), words)
    print_table(table)
    console.print(f"{passed} of {len(files)} pass ({100 * passed / len(files):.0f} %)")
    return 0 if passed == len(files) else 2


def run(arguments: argparse.Namespace) -> int:
    """Convert a file or a folder."""
    theirs: Path = arguments.theirs
    if theirs.is_dir():
        return run_many(theirs, arguments.ours or theirs.with_name(f"{theirs.name}_converted"))
    return run_one(theirs, arguments.ours or theirs.with_name(f"{theirs.stem}_converted.yml"))


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("theirs", type=Path, help="their file, or a folder of such")
    parser.add_argument(
        "ours", type=Path, nargs="?", help="where to write ours (default: beside, NAME_converted)"
    )
    arguments = parser.parse_args(argv)
    setup_logging()
    return run_plainly(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
