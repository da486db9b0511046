"""List the networks that `network_g.type` can name; `--markdown` writes docs/archs.md."""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.table import Table

from traiNNer.archs.catalogue import CLASSIFIERS, LEFT_OUT, SPECS, TEMPORAL
from traiNNer.archs.counting import count_parameters
from traiNNer.archs.spec import ArchSpec

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "archs.md"
COLUMNS = (
    "name",
    "parameters",
    "scales",
    "multiple of",
    "at least",
    "fp16",
    "bf16",
    "spandrel",
    "stacks",
    "source",
)
TEMPORAL_COLUMNS = (*COLUMNS[:3], "frames", "makes", *COLUMNS[3:7], "source")

EXPLANATION = (
    "Parameters are counted at scale 4, or the largest scale below it. *Multiple of* and *at "
    "least* are pixels of each side of the low-quality image. *spandrel*: a checkpoint is "
    "recognized by spandrel, and so by the programs built on it, from its weights alone. *Stacks*: "
    "`temporal_stack` can be built of it."
)
FOR_CLIPS = (
    "These take clips, `(B, T, 3, H, W)`, so they are trained on a video dataset, whose "
    "`clip_size` is their number of frames. They make the centre frame, `(B, 3, H * scale, W * "
    "scale)`, or all frames, `(B, T, 3, H * scale, W * scale)`. Their checkpoints are "
    "`.safetensors` files that say what they hold; of a file without that, `network_g` has to tell "
    "it."
)
CLASS_COLUMNS = ("family", "multiple of", "at least", "names")
FOR_CLASSES = (
    "For `model_type: classifier` ([Classifying](classify.md)): torchvision's, from `(B, 3, H, W)` "
    "to logits `(B, num_classes)`. Each takes `num_classes` (1000)."
)
STACKING = (
    "`temporal_stack` is any network of the table above that *stacks*, over the frames of a clip: "
    "`network_g: {type: temporal_stack, arch: span_s, frames: 5}`, and beside them what that "
    "network takes itself. Its first convolution sees all frames, `3 * frames` channels. A network "
    "that adds its input to its output makes all frames as well, of which the centre one is used, "
    "so it learns the difference to that frame. The others cannot be widened: "
)


def row(spec: ArchSpec) -> tuple[str, ...]:
    """The facts of one network, in the order of COLUMNS."""
    return (
        f"`{spec.name}`",
        f"{count_parameters(spec, spec.default_scale) / 1e6:.2f} M",
        ", ".join(map(str, spec.scales)),
        str(spec.size_multiple),
        str(spec.min_size),
        "yes" if spec.fp16 else "no",
        "yes" if spec.bf16 else "no",
        "yes" if spec.spandrel_detects else "no",
        "yes" if spec.stackable else "no",
        spec.source,
    )


def temporal_row(spec: ArchSpec) -> tuple[str, ...]:
    """The facts of one network for clips, in the order of TEMPORAL_COLUMNS."""
    frames = spec.frames_of({})
    makes = "all frames" if spec.target == "all" else "the centre frame"
    seen = "any number" if frames is None else f"{frames}, or any odd number"
    # It has no facts of its own.
    if spec.chosen_by is not None:
        return (
            f"`{spec.name}`",
            *["as its arch"] * 2,
            seen,
            makes,
            *["as its arch"] * 4,
            spec.source,
        )
    name, parameters, scales, multiple, least, fp16, bf16, *_ = row(spec)
    return (name, parameters, scales, seen, makes, multiple, least, fp16, bf16, spec.source)


def class_rows() -> Iterator[tuple[str, ...]]:
    """The names and facts of the networks that tell classes, a family a row."""
    for source, family in itertools.groupby(CLASSIFIERS, key=lambda spec: spec.source):
        specs = list(family)
        names = ", ".join(f"`{spec.name}`" for spec in specs)
        multiples = sorted({spec.size_multiple for spec in specs})
        least = sorted({spec.min_size for spec in specs})
        yield (source, ", ".join(map(str, multiples)), ", ".join(map(str, least)), names)


def table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """The lines of a table."""
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(cells) + " |" for cells in rows),
    ]


def parameters_of(spec: ArchSpec) -> str:
    """What a network can be given beside the scale, with the defaults."""
    options = [
        f"`{p.name}`" if p.default is p.empty else f"`{p.name}={p.default}`"
        for p in list(spec.__signature__.parameters.values())[1:]
    ]
    # What the second network takes, its own line says.
    further = [f"and those of the network that `{spec.chosen_by}` names"] if spec.chosen_by else []
    return ", ".join(options + further) or "none"


def markdown() -> str:
    """The document: a table of the networks, notes, and what each can be given."""
    lines = [
        "# Networks",
        "",
        (
            "Every name can stand in `network_g.type`. Written by `scripts/archs/list_archs.py "
            "--markdown`."
        ),
        "",
        EXPLANATION,
        "",
        *table(COLUMNS, map(row, SPECS)),
        "",
        "## For clips",
        "",
        FOR_CLIPS,
        "",
        *table(TEMPORAL_COLUMNS, map(temporal_row, TEMPORAL)),
        "",
        STACKING + ", ".join(f"`{spec.name}`" for spec in SPECS if not spec.stackable) + ".",
        "",
        "## For classes",
        "",
        FOR_CLASSES,
        "",
        *table(CLASS_COLUMNS, class_rows()),
        "",
        "## Notes",
        "",
    ]
    for spec in (*SPECS, *TEMPORAL):
        facts = [spec.note] if spec.note else []
        if spec.aliases:
            facts.append(f"also called {', '.join(f'`{alias}`' for alias in spec.aliases)}")
        if spec.unused_parameters:
            facts.append("has parameters that never get a gradient")
        if facts:
            lines.append(f"- `{spec.name}`: {'; '.join(facts)}.")
    lines += ["", "## Parameters", "", "Beside the scale, with the variant's defaults:", ""]
    lines += [f"- `{spec.name}`: {parameters_of(spec)}." for spec in (*SPECS, *TEMPORAL)]
    lines += ["", "## Architectures of spandrel that are left out", ""]
    lines += [f"- {name}: {why}." for name, why in LEFT_OUT.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--markdown", action="store_true", help=f"write {DOCUMENT.parent.name}/{DOCUMENT.name}"
    )
    arguments = parser.parse_args()
    # The classes' own, of deprecated functions of torch.
    warnings.simplefilter("ignore", UserWarning)
    if arguments.markdown:
        DOCUMENT.write_text(markdown(), encoding="utf-8")
        print(f"wrote {DOCUMENT}")
        return
    # A pipe has no width; all columns fit into this many.
    console = Console(width=None if sys.stdout.isatty() else 140)
    for columns, rows in (
        (COLUMNS, map(row, SPECS)),
        (TEMPORAL_COLUMNS, map(temporal_row, TEMPORAL)),
        (CLASS_COLUMNS, class_rows()),
    ):
        shown = Table(*columns)
        for cells in rows:
            shown.add_row(*cells)
        console.print(shown)


if __name__ == "__main__":
    main()
