#!/usr/bin/env python3
"""Average the weights of checkpoints of one network, or interpolate between two of them:

python scripts/average_weights.py a.safetensors b.safetensors --weights 0.3 0.7 -o both.safetensors

It works for networks of one training, or of which one began with the other's weights. The mean of
networks that were trained apart is none: an ensemble (docs/testing.md) averages their results.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from traiNNer.archs.loading import read_metadata
from traiNNer.archs.seals import BLANK, SEAL, sealed
from traiNNer.archs.weight_files import read_weights
from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import setup_logging
from traiNNer.utils.errors import CheckpointError, OptionsError
from traiNNer.utils.files import write_atomic

# What a file says of its network, which the mean of several has too.
KEPT = ("arch", "parameters", "scale", "traiNNer")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", metavar="FILE", nargs="+", type=Path, help="weights")
    parser.add_argument(
        "--weights",
        metavar="W",
        nargs="+",
        type=float,
        help="theirs; equal if left out",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="a .safetensors file")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 done, 2 checkpoints that do not go together."""
    arguments = parse_arguments(argv)
    setup_logging()
    return run_plainly(lambda: average(arguments))


def average(arguments: argparse.Namespace) -> int:
    """Read, average, write."""
    paths: list[Path] = arguments.checkpoints
    shares = normalized(arguments.weights, len(paths))
    if arguments.output.suffix != ".safetensors":
        raise OptionsError(f"{arguments.output}: expected a name that ends in .safetensors")
    write_average(arguments.output, paths, shares)
    return 0


def write_average(output: Path, paths: list[Path], shares: list[float]) -> None:
    """Average, write, and say of what."""
    mean = averaged(paths, shares)
    kept = {key: value for key, value in read_metadata(paths[0]).items() if key in KEPT}
    kept["averaged"] = ", ".join(
        f"{path.name} x {share:.4g}" for path, share in zip(paths, shares, strict=True)
    )
    content, _ = sealed(to_safetensors(mean, metadata=kept | {SEAL: BLANK}))
    write_atomic(output, content)
    print(f"{output}: {kept['averaged']}")


def normalized(given: list[float] | None, count: int) -> list[float]:
    """Shares that sum to 1; negative ones go beyond a checkpoint.

    Raises:
        OptionsError: for another number of them, or a sum of 0.
    """
    weights = given or [1.0] * count
    if len(weights) != count:
        raise OptionsError(f"--weights: {len(weights)} for {count} checkpoints; expected one each")
    total = sum(weights)
    if not abs(total) > 1e-6:
        raise OptionsError(f"--weights: they sum to {total:g}; expected another sum than 0")
    return [weight / total for weight in weights]


def averaged(paths: list[Path], shares: list[float]) -> dict[str, Tensor]:
    """The weighted mean of floating-point tensors, computed in float64; others are the first
    checkpoint's.

    Raises:
        CheckpointError: if they are not of one network.
    """
    first = read_weights(paths[0])
    sums = {name: shares[0] * tensor.double() for name, tensor in first.items()}
    for path, share in zip(paths[1:], shares[1:], strict=True):
        weights = read_weights(path)
        _require_same(first, weights, paths[0], path)
        for name, tensor in weights.items():
            sums[name] += share * tensor.double()
    return {
        name: (sums[name].to(tensor.dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in first.items()
    }


def _require_same(
    first: dict[str, Tensor], other: dict[str, Tensor], first_path: Path, path: Path
) -> None:
    names = sorted(first.keys() ^ other.keys())
    both = first.keys() & other.keys()
    names += sorted(name for name in both if first[name].shape != other[name].shape)
    if names:
        raise CheckpointError(
            f"{first_path} and {path} are not of one network: {len(names)} tensors differ in name "
            f"or shape, for example {names[0]}"
        )


if __name__ == "__main__":
    with torch.no_grad():
        sys.exit(main())
