"""Scores of whole images: metrics, means over images and scenes, pictures to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from traiNNer.data import Batch
from traiNNer.data.protocols import EvalSet
from traiNNer.engine.mishaps import Mishaps
from traiNNer.metrics.protocol import Metric
from traiNNer.models.memory_needs import with_second_try
from traiNNer.ops.color import quantize
from traiNNer.ops.resize import resize
from traiNNer.options.entries import MetricOptions
from traiNNer.utils.names import distinct, result_stems, shortened, visible

# Largest side, in GT pixels, of the cut-outs that TensorBoard's strips show.
STRIP_SIDE = 144
# Each pixel is a square of so many: TensorBoard shows strips of such a size as they are.
STRIP_ZOOM = 3
# Pixels between places that are compared.
STRIDE = 8


@dataclass(frozen=True)
class ImageScore:
    """One image and its scores by metric label; `scene` is the folder or film of a video's frame,
    else empty.
    """

    name: str
    scores: dict[str, float]
    scene: str = ""


@dataclass(frozen=True)
class ValidationResult:
    """The scores of one dataset.

    Attributes:
        dataset: its name.
        images: in order.
        failed: how many images lack a score that could not be computed, by metric label.
    """

    dataset: str
    images: list[ImageScore]
    failed: Mapping[str, int] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, float]:
        """Mean over the images that have a score, by metric label."""
        return _means(self.images)

    @property
    def complete_means(self) -> dict[str, float]:
        """The means of the metrics that could be computed for every image: only they can be
        compared with those of another time.
        """
        return {label: mean for label, mean in self.means.items() if not self.failed.get(label)}

    @property
    def scenes(self) -> dict[str, dict[str, float]]:
        """The means of each scene of a video, by its name and metric label; empty for images."""
        by_scene: dict[str, list[ImageScore]] = {}
        for image in self.images:
            if image.scene:
                by_scene.setdefault(image.scene, []).append(image)
        names = distinct((visible(Path(scene).name) for scene in by_scene), key=str)
        return dict(zip(names, map(_means, by_scene.values()), strict=True))


# What an infinite score counts in a mean: the PSNR of an exact picture is one, and with it the mean
# would be, so that one black page would decide which weights are the best. No picture of 8 bits
# that is not exact has more.
EXACT = 150.0


def _means(images: Sequence[ImageScore]) -> dict[str, float]:
    labels = dict.fromkeys(label for image in images for label in image.scores)
    means: dict[str, float] = {}
    for label in labels:
        scores = [image.scores[label] for image in images if label in image.scores]
        scores = [EXACT if score == math.inf else score for score in scores]
        means[label] = sum(scores) / len(scores)
    return means


def build_metrics(options: Mapping[str, MetricOptions], scale: int) -> dict[str, Metric]:
    """The metrics by label, built once."""
    return {label: metric.entry(scale=scale, **metric.params) for label, metric in options.items()}


def describe_scores(scores: Mapping[str, float], metrics: Mapping[str, Metric]) -> str:
    """For example `psnr 28.4312 dB, ssim 0.8123`."""
    parts = (
        f"{label} {value:.4f} {metrics[label].unit}".rstrip() for label, value in scores.items()
    )
    return ", ".join(parts)


def require_sizes(dataset: EvalSet, metrics: Mapping[str, Metric]) -> None:
    """Refuse images that are too small for a metric now, and not at the first validation.

    Raises:
        DataError: naming them.
    """
    for label, metric in metrics.items():
        dataset.require_gt_side(
            metric.min_side, f"val.metrics.{label} (its window and the cropped border)"
        )


def picture_names(dataset: EvalSet, room: int = 0) -> list[str]:
    """What the picture of each element is called as a file, without suffix: as its LQ, and no two
    alike. A clip is called after its scene and the frame in the middle.

    Args:
        dataset: whole images, or clips around each frame.
        room: bytes to be left free between the name and the suffix .png.
    """
    paths = list(map(Path, dataset.lq_paths))
    if dataset.target is None:
        return result_stems([path.name for path in paths], ".png", room)
    stems = (f"{path.parent.name}_{path.stem}" for path in paths)
    return distinct(shortened(stem, room + len("_1000000.png")) for stem in stems)


def picture_labels(names: Sequence[str]) -> list[str]:
    """The names for tables, curves and messages: text on one line, and no two alike."""
    return distinct(map(visible, names), key=str)


def scene_of(batch: Batch) -> str:
    """The folder or film of a batch of one clip; empty for an image."""
    return str(Path(batch.lq_paths[0]).parent) if is_clip(batch) else ""


def is_clip(batch: Batch) -> bool:
    """Whether samples are clips `(T, 3, h, w)`, of one frame even, and not images."""
    return batch.lq is not None and batch.lq.ndim == 5


def middle_frame(clip: Tensor) -> Tensor:
    """`(B, C, H, W)`: the frame T // 2 of clips `(B, T, C, H, W)`, images as they are."""
    return clip[:, clip.shape[1] // 2] if clip.ndim == 5 else clip


@dataclass
class Judge:
    """Scores images one after the other, and remembers the last one for the metrics that compare
    two frames.

    A metric that fails has no score, which `mishaps` says and counts by its label.

    Attributes:
        metrics: by label.
        mishaps: what failed.
        memory_elsewhere: a lack of memory is raised, because the caller has more elsewhere.
    """

    metrics: Mapping[str, Metric]
    mishaps: Mishaps = field(default_factory=Mishaps)
    memory_elsewhere: bool = False
    _before: tuple[Path, Tensor, Tensor] | None = None

    def __call__(self, sr: Tensor, gt: Tensor, path: str, *, frame: bool) -> dict[str, float]:
        """Scores of `sr` against `gt`, both `(1, 3, H, W)`, after rounding to the 8 bits that a
        saved image has.

        Args:
            sr: the output.
            gt: what it should be.
            path: of the image; the frames of a scene have the same folder (or video) and come in
                order.
            frame: it is one of a scene.
        """
        scene = Path(path).parent
        before = self._before
        self._before = None
        scores: dict[str, float] = {}
        forgiven = not self.memory_elsewhere
        rounded = None
        with self.mishaps.forgiving("rounding to 8 bit", path, "no scores", memory=forgiven):
            rounded = quantize(sr)
        if rounded is None:
            self.mishaps.counts.update(list(self.metrics))
            return scores
        sr = rounded
        for label, metric in self.metrics.items():
            with self.mishaps.forgiving(label, path, "its score is missing", memory=forgiven):
                if not metric.temporal:
                    measure = partial(metric, sr, gt)
                elif before is not None and before[0] == scene:
                    measure = partial(_of_two, metric, (before[1], sr), (before[2], gt))
                else:
                    continue
                scores[label] = float(with_second_try(measure, sr.device, label))
        keep = frame and any(metric.temporal for metric in self.metrics.values())
        self._before = (scene, sr, gt) if keep else None
        return scores


def _of_two(metric: Metric, sr: tuple[Tensor, Tensor], gt: tuple[Tensor, Tensor]) -> float:
    """A metric that compares a frame with the one before."""
    return metric(torch.cat(sr), torch.cat(gt))


def strip(lq: Tensor, sr: Tensor, gt: Tensor | None, *, middle: bool = False) -> Tensor:
    """LQ | SR | GT side by side, `(3, H, W)` in [0, 1]: the place where LQ has most detail, which
    is the same at every validation, with pixels so large that one sees them.

    Args:
        lq: `(1, 3, h, w)`.
        sr: `(1, 3, h * scale, w * scale)`.
        gt: as `sr`; None leaves it out.
        middle: show the middle of the images, as of frames that are to be compared.
    """
    size = (sr.shape[-2], sr.shape[-1])
    enlarged = resize(lq, size, mode="nearest")
    pictures = [enlarged, sr] if gt is None else [enlarged, sr, gt]
    height, width = min(STRIP_SIDE, size[0]), min(STRIP_SIDE, size[1])
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    if not middle:
        detail = (enlarged - resize(lq, size)).abs().mean(dim=1, keepdim=True)
        top, left = place_of_most(detail, height, width)
    parts = [p[0, :, top : top + height, left : left + width] for p in pictures]
    shown = torch.cat([part.nan_to_num().clamp(0, 1).cpu() for part in parts], dim=-1)
    return shown.repeat_interleave(STRIP_ZOOM, -1).repeat_interleave(STRIP_ZOOM, -2)


def place_of_most(values: Tensor, height: int, width: int) -> tuple[int, int]:
    """Top and left of the rectangle of `(1, 1, H, W)` with the largest mean, to a few pixels."""
    sums = torch.nn.functional.avg_pool2d(values, (height, width), stride=STRIDE)[0, 0]
    place = int(sums.argmax())
    return place // sums.shape[1] * STRIDE, place % sums.shape[1] * STRIDE
