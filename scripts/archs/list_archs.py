"""List the networks that `network_g.type` can name; `--markdown` writes docs/archs.md."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.table import Table

from traiNNer.archs.catalogue import LEFT_OUT, SPECS
from traiNNer.archs.spec import ArchSpec

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "archs.md"
COLUMNS = ("name", "parameters", "scales", "multiple of", "at least", "fp16", "bf16", "spandrel", "source")

EXPLANATION = (
    "Parameters are counted at scale 4, or the largest scale below it. *Multiple of* and *at least* are pixels of each "
    "side of the low-quality image. *spandrel*: a checkpoint is recognized by spandrel, and so by the programs built "
    "on it, from its weights alone."
)


def row(spec: ArchSpec) -> tuple[str, ...]:
    """The facts of one network, in the order of COLUMNS."""
    return (
        spec.name,
        f"{spec.count_parameters(spec.default_scale) / 1e6:.2f} M",
        ", ".join(map(str, spec.scales)),
        str(spec.size_multiple),
        str(spec.min_size),
        "yes" if spec.fp16 else "no",
        "yes" if spec.bf16 else "no",
        "yes" if spec.spandrel_detects else "no",
        spec.source,
    )


def markdown() -> str:
    """The document: a table of the networks, notes, and what each can be given."""
    lines = [
        "# Networks",
        "",
        "Every name can stand in `network_g.type`. Written by `scripts/archs/list_archs.py --markdown`.",
        "",
        EXPLANATION,
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join((f"`{cells[0]}`", *cells[1:])) + " |" for cells in map(row, SPECS)),
        "",
        "## Notes",
        "",
    ]
    for spec in SPECS:
        facts = [spec.note] if spec.note else []
        if spec.aliases:
            facts.append(f"also called {', '.join(f'`{alias}`' for alias in spec.aliases)}")
        if spec.unused_parameters:
            facts.append("has parameters that never get a gradient")
        if facts:
            lines.append(f"- `{spec.name}`: {'; '.join(facts)}.")
    lines += ["", "## Parameters", "", "Beside the scale, with the variant's defaults:", ""]
    for spec in SPECS:
        parameters = list(spec.__signature__.parameters.values())[1:]
        lines.append(f"- `{spec.name}`: " + (", ".join(f"`{p.name}={p.default}`" for p in parameters) or "none") + ".")
    lines += ["", "## Architectures of spandrel that are left out", ""]
    lines += [f"- {name}: {why}." for name, why in LEFT_OUT.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true", help=f"write {DOCUMENT.parent.name}/{DOCUMENT.name}")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # the classes' own
    if arguments.markdown:
        DOCUMENT.write_text(markdown(), encoding="utf-8")
        print(f"wrote {DOCUMENT}")
        return
    table = Table(*COLUMNS)
    for spec in SPECS:
        table.add_row(*row(spec))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
