"""What a finished run shows: bicubic beside the network, in figures and in pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from rich.table import Table
from torch import Tensor

from traiNNer.data import eval_batches
from traiNNer.data.protocols import EvalSet
from traiNNer.engine.scoring import (
    ImageScore,
    Judge,
    Metric,
    ValidationResult,
    is_clip,
    middle_frame,
    picture_labels,
    picture_names,
    scene_of,
)
from traiNNer.engine.validation import Upscale
from traiNNer.ops.color import to_uint8
from traiNNer.ops.resize import resize
from traiNNer.utils.images import write_image

# Side, in GT pixels, of the cut-outs on the sheet.
CROP = 160
# How often each pixel of a cut-out is repeated on the sheet.
ZOOM = 2
MARGIN = 12
# Pixels between the sheet's pictures, and of the line of words above each row.
TITLE = 30
BACKGROUND = (24, 24, 27)
INK = (228, 228, 231)
MAX_ROWS = 6


@dataclass(frozen=True)
class Comparison:
    """One dataset judged twice."""

    bicubic: ValidationResult
    network: ValidationResult
    sheet: Image.Image


@dataclass(frozen=True)
class _Row:
    name: str
    pictures: dict[str, np.ndarray]
    captions: dict[str, str]


def compare_with_bicubic(
    name: str, dataset: EvalSet, upscale: Upscale, metrics: Mapping[str, Metric]
) -> Comparison:
    """Judge bicubic enlargement and the network on the same images, which stay in main memory.

    Args:
        name: of the dataset.
        dataset: pairs, read whole.
        upscale: the network, from `(1, 3, H, W)` to `(1, 3, H * scale, W * scale)`.
        metrics: by label.
    """
    bicubic_scores: list[ImageScore] = []
    network_scores: list[ImageScore] = []
    rows: list[_Row] = []
    judges = Judge(metrics), Judge(metrics)
    labels = picture_labels(picture_names(dataset))
    for label, batch in zip(labels, eval_batches(dataset, 0), strict=True):
        if batch.gt is None:
            continue
        whole_lq, gt = batch.to("cpu").pair
        lq = middle_frame(whole_lq)
        height, width = gt.shape[-2:]
        bicubic = resize(lq, (height, width)).clamp(0, 1)
        sr = middle_frame(upscale(whole_lq)).clamp(0, 1)
        for scores, picture, judge in (
            (bicubic_scores, bicubic, judges[0]),
            (network_scores, sr, judges[1]),
        ):
            values = judge(picture, gt, batch.lq_paths[0], frame=is_clip(batch))
            scores.append(ImageScore(label, values, scene_of(batch)))
        if len(rows) < MAX_ROWS:
            pictures = {
                "LQ": resize(lq, (height, width), mode="nearest"),
                "bicubic": bicubic,
                "network": sr,
                "GT": gt,
            }
            rows.append(_row(label, pictures, bicubic_scores[-1], network_scores[-1]))
    sheet = _draw_sheet(rows)
    return Comparison(
        ValidationResult(name, bicubic_scores), ValidationResult(name, network_scores), sheet
    )


def comparison_table(comparison: Comparison, metrics: Mapping[str, Metric]) -> Table:
    """Image by image: every metric of bicubic and of the network, and the gain."""
    table = Table(
        title=f"bicubic and the network on {comparison.network.dataset}", title_justify="left"
    )
    table.add_column("image", overflow="fold")
    for label, metric in metrics.items():
        unit = f" ({metric.unit})" if metric.unit else ""
        for who in ("bicubic", "network", "gain"):
            table.add_column(f"{label} {who}{unit}", justify="right")
    bicubic = comparison.bicubic
    network = comparison.network
    rows = [
        (new.name, old.scores, new.scores)
        for old, new in zip(bicubic.images, network.images, strict=True)
    ]
    if network.scenes:
        rows = [(scene, bicubic.scenes[scene], scores) for scene, scores in network.scenes.items()]
    for name, before, after in rows:
        table.add_row(name, *_cells(metrics, before, after))
    table.add_section()
    table.add_row("mean", *_cells(metrics, bicubic.means, network.means))
    return table


def _cells(
    labels: Iterable[str], bicubic: Mapping[str, float], network: Mapping[str, float]
) -> list[str]:
    cells: list[str] = []
    for label in labels:
        # A scene of one frame has no flicker, and what failed has no score.
        if label not in bicubic or label not in network:
            cells += ["", "", ""]
            continue
        before = bicubic[label]
        after = network[label]
        digits = 2 if abs(before) >= 2 else 4
        cells += [f"{before:.{digits}f}", f"{after:.{digits}f}", f"{after - before:+.{digits}f}"]
    return cells


def save_sheet(path: Path, sheet: Image.Image) -> None:
    """Write the sheet as PNG."""
    write_image(path, np.asarray(sheet.convert("RGB")))


def _row(name: str, pictures: dict[str, Tensor], bicubic: ImageScore, network: ImageScore) -> _Row:
    """Cut the place out of every picture at which bicubic is farthest from GT: there is something
    to see.
    """
    error = (pictures["bicubic"] - pictures["GT"]).square().mean(dim=1, keepdim=True)
    height, width = min(CROP, error.shape[-2]), min(CROP, error.shape[-1])
    sums = torch.nn.functional.avg_pool2d(error, (height, width), stride=8)[0, 0]
    place = int(sums.argmax())
    top, left = place // sums.shape[1] * 8, place % sums.shape[1] * 8
    crops = {
        title: to_uint8(p[0, :, top : top + height, left : left + width])
        .permute(1, 2, 0)
        .cpu()
        .numpy()
        for title, p in pictures.items()
    }
    captions = {
        "LQ": name,
        "bicubic": _caption("bicubic", bicubic),
        "network": _caption("network", network),
    }
    return _Row(name, crops, captions | {"GT": "ground truth"})


def _caption(title: str, score: ImageScore) -> str:
    label, value = next(iter(score.scores.items()), ("", 0.0))
    return f"{title}: {label.upper()} {value:.2f}" if label else title


def _draw_sheet(rows: list[_Row]) -> Image.Image:
    side = CROP * ZOOM
    columns = 4
    size = (
        columns * (side + MARGIN) + MARGIN,
        max(1, len(rows)) * (side + TITLE + MARGIN) + MARGIN,
    )
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for row_number, row in enumerate(rows):
        top = MARGIN + row_number * (side + TITLE + MARGIN)
        for column, (title, picture) in enumerate(row.pictures.items()):
            left = MARGIN + column * (side + MARGIN)
            caption = f"{row.captions[title]}: LQ" if title == "LQ" else row.captions[title]
            draw.text((left, top + 4), caption, fill=INK, font=font)
            image = Image.fromarray(picture)
            zoomed = image.resize(
                (image.width * ZOOM, image.height * ZOOM), Image.Resampling.NEAREST
            )
            sheet.paste(zoomed, (left, top + TITLE))
    return sheet
