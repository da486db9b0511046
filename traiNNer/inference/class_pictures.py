"""Pictures of how well a classifier tells classes, and how well it knows that."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from traiNNer.utils.files import write_atomic

# Of the reliability's picture: ten of them are usual.
_BINS = 10
# Classes up to which each cell of the matrix has its number written in it.
_MOST_WRITTEN = 20


def _new_figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _save(figure: Any, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomic(path, buffer.getvalue())


def save_confusion(path: Path, classes: Sequence[str], told: Tensor, truth: Tensor) -> None:
    """Which classes are taken for which, as PNG: rows are the truth, and their shares are the
    colours.

    Args:
        path: of the picture.
        classes: their names.
        told: probabilities (N, classes).
        truth: (N,) numbers of classes.
    """
    count = len(classes)
    pairs = truth.long() * count + told.argmax(1)
    matrix = torch.bincount(pairs, minlength=count * count).reshape(count, count)
    shares = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    side = max(4.5, min(16.0, 0.6 * count + 2))
    figure, axes = _new_figure(side, side)
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(count), classes, rotation=45, ha="right")
    axes.set_yticks(range(count), classes)
    accuracy = 100 * matrix.trace().item() / max(1, len(truth))
    axes.set(xlabel="told", ylabel="truth", title=f"{accuracy:.1f} % of {len(truth)} right")
    for row in range(count if count <= _MOST_WRITTEN else 0):
        for column in range(count):
            dark = shares[row, column] > 0.5
            text = str(matrix[row, column].item())
            axes.text(column, row, text, ha="center", va="center", color="w" if dark else "k")
    _save(figure, path)


def save_reliability(path: Path, told: Tensor, truth: Tensor) -> None:
    """How often what is told with a probability is right, as PNG, with the expected calibration
    error: the mean distance between the two, over all pictures.

    Args:
        path: of the picture.
        told: probabilities (N, classes).
        truth: (N,) numbers of classes, or (N, classes) of 0 and 1.
    """
    if truth.ndim == 1:
        sure, best = told.max(1)
        right = (best == truth).float()
    else:
        # Each class is a question of its own.
        sure, right = told.flatten(), truth.float().flatten()
    edges = torch.linspace(0, 1, _BINS + 1)
    places = (torch.bucketize(sure, edges, right=True) - 1).clamp(0, _BINS - 1)
    counts = torch.bincount(places, minlength=_BINS)
    seen = counts > 0
    means = torch.bincount(places, sure, _BINS) / counts.clamp(min=1)
    shares = torch.bincount(places, right, _BINS) / counts.clamp(min=1)
    error = ((means - shares).abs() * counts).sum().item() / len(sure)
    figure, axes = _new_figure(5, 5)
    axes.plot([0, 1], [0, 1], "--", color="gray", label="as sure as right")
    axes.bar(
        (edges[:-1] + 0.5 / _BINS)[seen].numpy(),
        shares[seen].numpy(),
        width=0.9 / _BINS,
        alpha=0.4,
        label="share that is right",
    )
    axes.plot(means[seen].numpy(), shares[seen].numpy(), "o-")
    axes.set(
        xlabel="probability",
        ylabel="right",
        xlim=(0, 1),
        ylim=(0, 1),
        title=f"expected calibration error {error:.3f}",
    )
    axes.legend(loc="upper left")
    _save(figure, path)
