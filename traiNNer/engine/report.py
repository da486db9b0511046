"""Bicubic beside one network or several, in figures and in pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from rich.table import Table
from torch import Tensor

from traiNNer.data import SampleRequest, collate
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
    place_of_most,
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
BICUBIC = "bicubic"
TRUTH = "ground truth"
_NOT_OF_NETWORKS = (BICUBIC, TRUTH, "LQ")


@dataclass(frozen=True)
class Comparison:
    """One dataset judged several times.

    Attributes:
        results: by whose enlargements they are, bicubic's first; without images where there is no
            GT.
        sheet: cut-outs of the first pictures.
    """

    results: dict[str, ValidationResult]
    sheet: Image.Image


@dataclass(frozen=True)
class _Row:
    pictures: dict[str, np.ndarray]
    captions: dict[str, str]


def compare(
    name: str,
    dataset: EvalSet,
    networks: Mapping[str, Upscale],
    metrics: Mapping[str, Metric],
    *,
    failed: Callable[[str, Exception], None] | None = None,
    rows: int = MAX_ROWS,
) -> Comparison:
    """Judge bicubic enlargement and networks on the same images, which stay in main memory.

    Args:
        name: of the dataset.
        dataset: whole images; without GT they are shown and not judged.
        networks: by the names that people see, from `(1, 3, H, W)` to
            `(1, 3, H * scale, W * scale)`.
        metrics: by label.
        failed: gets a picture's path and what went wrong with it, and the others go on; left out,
            it is raised.
        rows: pictures on the sheet.
    """
    scores: dict[str, list[ImageScore]] = {who: [] for who in (BICUBIC, *networks)}
    judges = {who: Judge(metrics) for who in scores}
    labels = picture_labels(picture_names(dataset))
    shown: list[_Row] = []
    for index, (label, path) in enumerate(zip(labels, dataset.lq_paths, strict=True)):
        try:
            batch = collate([dataset[SampleRequest(index, None, 0)]]).to("cpu")
            assert batch.lq is not None, "what is compared has LQ"
            enlarged = {who: upscale(batch.lq) for who, upscale in networks.items()}
        # Whatever a decoder or a network raises is told by whoever listens.
        except Exception as error:
            if failed is None:
                raise
            failed(path, error)
            continue
        results = {who: middle_frame(sr).clamp(0, 1) for who, sr in enlarged.items()}
        lq = middle_frame(batch.lq)
        height, width = next(iter(results.values())).shape[-2:]
        results = {BICUBIC: resize(lq, (height, width)).clamp(0, 1)} | results
        captions: dict[str, str] = {}
        for who, sr in results.items():
            captions[who] = who
            if batch.gt is not None:
                values = judges[who](sr, batch.gt, path, frame=is_clip(batch))
                scores[who].append(ImageScore(label, values, scene_of(batch)))
                captions[who] = _caption(who, values)
        if len(shown) < rows:
            pictures = {"LQ": resize(lq, (height, width), mode="nearest")} | results
            captions["LQ"] = f"{label}: LQ"
            if batch.gt is not None:
                pictures[TRUTH] = batch.gt
                captions[TRUTH] = TRUTH
            shown.append(_Row(_cut_outs(pictures), captions))
    return Comparison(
        {who: ValidationResult(name, images) for who, images in scores.items()}, _draw_sheet(shown)
    )


def comparison_table(comparison: Comparison, metrics: Mapping[str, Metric]) -> Table:
    """Image by image: every metric of bicubic and of each network; of one network, the gain."""
    results = comparison.results
    first, *others = results.values()
    table = Table(title=f"{', '.join(results)} on {first.dataset}", title_justify="left")
    table.add_column("image", overflow="fold")
    shows_gain = len(others) == 1
    for label, metric in metrics.items():
        unit = f" ({metric.unit})" if metric.unit else ""
        for who in (*results, "gain") if shows_gain else results:
            table.add_column(f"{label} {who}{unit}", justify="right", overflow="fold")
    rows = {
        image.name: [result.images[number].scores for result in results.values()]
        for number, image in enumerate(first.images)
    }
    if first.scenes:
        rows = {
            scene: [result.scenes[scene] for result in results.values()] for scene in first.scenes
        }
    for name, scores in rows.items():
        table.add_row(name, *_cells(metrics, scores, shows_gain=shows_gain))
    table.add_section()
    means = [result.means for result in results.values()]
    table.add_row("mean", *_cells(metrics, means, shows_gain=shows_gain))
    return table


def _cells(
    labels: Iterable[str], scores: Sequence[Mapping[str, float]], *, shows_gain: bool
) -> list[str]:
    cells: list[str] = []
    for label in labels:
        values = [of_one[label] for of_one in scores if label in of_one]
        # A scene of one frame has no flicker, and what failed has no score.
        if len(values) < len(scores):
            cells += [""] * (len(scores) + shows_gain)
            continue
        digits = 2 if abs(values[0]) >= 2 else 4
        cells += [f"{value:.{digits}f}" for value in values]
        if shows_gain:
            cells.append(f"{values[1] - values[0]:+.{digits}f}")
    return cells


def save_sheet(path: Path, sheet: Image.Image) -> None:
    """Write the sheet as PNG."""
    write_image(path, np.asarray(sheet.convert("RGB")))


def _cut_outs(pictures: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The place where there is something to see: at which several networks differ most, or one
    network and bicubic, or bicubic and GT.
    """
    networks = [picture for who, picture in pictures.items() if who not in _NOT_OF_NETWORKS]
    if len(networks) == 1:
        networks = [pictures[BICUBIC], pictures.get(TRUTH, networks[0])]
    distance = torch.cat(networks).var(dim=0, keepdim=True).mean(dim=1, keepdim=True)
    height = min(CROP, distance.shape[-2])
    width = min(CROP, distance.shape[-1])
    top, left = place_of_most(distance, height, width)
    return {
        title: to_uint8(p[0, :, top : top + height, left : left + width])
        .permute(1, 2, 0)
        .cpu()
        .numpy()
        for title, p in pictures.items()
    }


def _caption(who: str, scores: Mapping[str, float]) -> str:
    label, value = next(iter(scores.items()), ("", 0.0))
    return f"{who}: {label.upper()} {value:.2f}" if label else who


def _draw_sheet(rows: list[_Row]) -> Image.Image:
    side = CROP * ZOOM
    columns = max((len(row.pictures) for row in rows), default=1)
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
            draw.text((left, top + 4), _fitting(row.captions[title], font), fill=INK, font=font)
            image = Image.fromarray(picture)
            zoomed = image.resize(
                (image.width * ZOOM, image.height * ZOOM), Image.Resampling.NEAREST
            )
            sheet.paste(zoomed, (left, top + TITLE))
    return sheet


def _fitting(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The end of a caption that is too long: that is where names differ and the score is."""
    while len(caption) > 4 and font.getlength(caption) > CROP * ZOOM:
        caption = f"...{caption[4:]}"
    return caption
