"""Whole images through the network: scores, saved pictures, strips for TensorBoard."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from traiNNer.data import Batch, eval_batches
from traiNNer.data.loader import RequestDataset
from traiNNer.engine.tracker import Tracker
from traiNNer.models import SmallestTileError
from traiNNer.ops.color import quantize, to_uint8
from traiNNer.ops.resize import resize
from traiNNer.options.schema import MetricOptions
from traiNNer.utils.images import write_image
from traiNNer.utils.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)
# Largest side, in GT pixels, of the cut-outs that TensorBoard's strips show.
STRIP_SIDE = 320

# Scenes of a set that have curves of their own.
MOST_SCENES = 16
MAIN_MEMORY = torch.device("cpu")

Upscale = Callable[[Tensor], Tensor]


class Metric(Protocol):
    """What the validation asks of a metric."""

    better: Literal["higher", "lower"]
    unit: str
    temporal: bool
    """Whether it compares a frame and the one after it, `(2, 3, H, W)`, and not single images, `(1,
    3, H, W)`."""

    @property
    def min_side(self) -> int:
        """Pixels that each side of an image must have at least."""
        ...

    def __call__(self, sr: Tensor, gt: Tensor) -> float: ...


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
    """The scores of one dataset."""

    dataset: str
    images: list[ImageScore]

    @property
    def means(self) -> dict[str, float]:
        """Mean over the images that have a score, by metric label."""
        return _means(self.images)

    @property
    def scenes(self) -> dict[str, dict[str, float]]:
        """The means of each scene of a video, by its name and metric label; empty for images."""
        by_scene: dict[str, list[ImageScore]] = {}
        for image in self.images:
            if image.scene:
                by_scene.setdefault(image.scene, []).append(image)
        taken: set[str] = set()
        return {
            free_name(Path(scene).name, taken): _means(images) for scene, images in by_scene.items()
        }


def _means(images: Sequence[ImageScore]) -> dict[str, float]:
    labels = dict.fromkeys(label for image in images for label in image.scores)
    found = {
        label: [image.scores[label] for image in images if label in image.scores]
        for label in labels
    }
    return {label: sum(scores) / len(scores) for label, scores in found.items()}


def build_metrics(options: Mapping[str, MetricOptions], scale: int) -> dict[str, Metric]:
    """The metrics by label, built once."""
    return {label: metric.entry(scale=scale, **metric.params) for label, metric in options.items()}


def require_sizes(dataset: Any, metrics: Mapping[str, Metric]) -> None:
    """Refuse images that are too small for a metric now, and not at the first validation.

    Raises:
        DataError: naming them.
    """
    for label, metric in metrics.items():
        dataset.require_gt_side(
            metric.min_side, f"val.metrics.{label} (its window and the cropped border)"
        )


def image_name(batch: Batch) -> str:
    """The name of a batch of one image, fit for TensorBoard and tables: its file's name without
    suffix.

    Of a clip it is that of the scene and of the frame in the middle.
    """
    path = Path(batch.lq_paths[0])
    name = path.stem if batch.lq.ndim == 4 else f"{path.parent.name}_{path.stem}"
    return name.encode("utf-8", "xmlcharrefreplace").decode()


def scene_of(batch: Batch) -> str:
    """The folder or film of a batch of one clip; empty for an image."""
    return "" if batch.lq.ndim == 4 else str(Path(batch.lq_paths[0]).parent)


def middle_frame(clip: Tensor) -> Tensor:
    """`(B, C, H, W)`: of clips `(B, T, C, H, W)` the frame T // 2, images as they are."""
    return clip[:, clip.shape[1] // 2] if clip.ndim == 5 else clip


def free_name(name: str, taken: set[str]) -> str:
    """`name`, or with a number where it is taken (a.png and sub/a.png); it is taken from then
    on.
    """
    candidate = name
    number = 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


@dataclass
class Judge:
    """Scores images one after the other, and remembers the last one for the metrics that compare
    two frames.

    Attributes:
        metrics: by label.
    """

    metrics: Mapping[str, Metric]
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
        sr = quantize(sr)
        scene = Path(path).parent
        scores: dict[str, float] = {}
        for label, metric in self.metrics.items():
            if not metric.temporal:
                scores[label] = metric(sr, gt)
            elif self._before is not None and self._before[0] == scene:
                scores[label] = metric(
                    torch.cat((self._before[1], sr)), torch.cat((self._before[2], gt))
                )
        keep = frame and any(metric.temporal for metric in self.metrics.values())
        self._before = (scene, sr, gt) if keep else None
        return scores


def judge(sr: Tensor, gt: Tensor, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Scores of a single image, see `Judge`."""
    return Judge(metrics)(sr, gt, "", frame=False)


def strip(lq: Tensor, sr: Tensor, gt: Tensor | None) -> Tensor:
    """LQ enlarged | SR | GT side by side: the middle of the images, `(3, H, W)` in [0, 1]."""
    enlarged = resize(lq, (sr.shape[-2], sr.shape[-1]), mode="nearest")
    pictures = [enlarged, sr] if gt is None else [enlarged, sr, gt]
    height, width = min(STRIP_SIDE, sr.shape[-2]), min(STRIP_SIDE, sr.shape[-1])
    top, left = (sr.shape[-2] - height) // 2, (sr.shape[-1] - width) // 2
    middles = [p[0, :, top : top + height, left : left + width] for p in pictures]
    return torch.cat([middle.nan_to_num().clamp(0, 1).cpu() for middle in middles], dim=-1)


class Validator:
    """Validates on a set of datasets.

    Args:
        datasets: by name; each gives whole images.
        metrics: by label.
        device: where images are processed and judged.
        num_workers: processes that read images, by dataset.
        tracker: for curves and strips.
        tb_images: how many strips of each dataset are shown.
        save_to: folder for the outputs, None to save none.
    """

    def __init__(
        self,
        datasets: Mapping[str, RequestDataset],
        metrics: Mapping[str, Metric],
        device: torch.device,
        num_workers: Mapping[str, int],
        tracker: Tracker,
        tb_images: int = 0,
        save_to: Path | None = None,
    ) -> None:
        self.datasets = datasets
        self.metrics = metrics
        self._device = device
        self._num_workers = num_workers
        self._tracker = tracker
        self._tb_images = tb_images
        self._save_to = save_to
        self._judge = Judge(metrics)
        self._strips: list[Tensor] = []

    def run(
        self, upscale: Upscale, iteration: int, should_stop: Callable[[], bool]
    ) -> list[ValidationResult] | None:
        """Process every dataset.

        Args:
            upscale: from `(1, 3, H, W)` to `(1, 3, H * scale, W * scale)`.
            iteration: for curves and file names.
            should_stop: asked between images; when true, nothing is reported and None is returned.
        """
        results: list[ValidationResult] = []
        for name, dataset in self.datasets.items():
            start = time.perf_counter()
            images: list[ImageScore] = []
            names: set[str] = set()
            self._judge = Judge(self.metrics)
            self._strips = []
            for index, batch in enumerate(eval_batches(dataset, self._num_workers[name])):
                if should_stop():
                    return None
                own_name = free_name(image_name(batch), names)
                images.append(
                    self._one(
                        upscale, batch, name, own_name, iteration, shown=index < self._tb_images
                    )
                )
            result = ValidationResult(name, images)
            results.append(result)
            self._tracker.scalars(
                {f"val/{name}/{label}": mean for label, mean in result.means.items()}, iteration
            )
            for scene, means in list(result.scenes.items())[:MOST_SCENES]:
                scores = {
                    f"val_scenes/{name}/{label}/{scene}": mean for label, mean in means.items()
                }
                self._tracker.scalars(scores, iteration)
            log.info(
                "validation at %d on %s (%d images, %.1f s): %s",
                iteration, name, len(images), time.perf_counter() - start, self.describe(result.means) or "no GT",
            )  # fmt: skip
        self._tracker.flush()
        return results

    def describe(self, scores: Mapping[str, float]) -> str:
        """For example `psnr 28.4312 dB, ssim 0.8123`."""
        parts = (
            f"{label} {value:.4f} {self.metrics[label].unit}".rstrip()
            for label, value in scores.items()
        )
        return ", ".join(parts)

    def _one(
        self,
        upscale: Upscale,
        batch: Batch,
        dataset: str,
        name: str,
        iteration: int,
        *,
        shown: bool,
    ) -> ImageScore:
        """Judge, save and show an image; where memory runs out, with the image in main memory."""
        try:
            return self._attempt(upscale, batch, dataset, name, iteration, shown=shown)
        except (RuntimeError, MemoryError, SmallestTileError) as error:
            if self._device == MAIN_MEMORY or not (
                isinstance(error, SmallestTileError) or is_out_of_memory(error)
            ):
                raise
        log.warning(
            "validation ran out of memory: from now on images stay in main memory, only tiles "
            "visit the device"
        )
        self._device = MAIN_MEMORY
        self._judge = Judge(
            self.metrics
        )  # the frame before is on the device, or was this one already
        return self._attempt(upscale, batch, dataset, name, iteration, shown=shown)

    def _attempt(
        self,
        upscale: Upscale,
        batch: Batch,
        dataset: str,
        name: str,
        iteration: int,
        *,
        shown: bool,
    ) -> ImageScore:
        on_device = batch.to(self._device)
        sr = middle_frame(upscale(on_device.lq)).clamp(0, 1)
        lq = middle_frame(on_device.lq)
        gt = on_device.gt
        clip = batch.lq.ndim == 5
        scores = {} if gt is None else self._judge(sr, gt, batch.lq_paths[0], frame=clip)
        if self._save_to is not None:
            path = self._save_to / dataset / f"{name}_{iteration}.png"
            write_image(path, to_uint8(sr[0]).permute(1, 2, 0).cpu().numpy())
        if shown and clip:  # frames that follow each other, below each other
            self._strips = [
                before for before in self._strips if before.shape == self._strips[0].shape
            ]
            self._strips.append(strip(lq, sr, gt))
            self._tracker.image(f"{dataset}/frames", torch.cat(self._strips, dim=-2), iteration)
        elif shown:
            self._tracker.image(f"{dataset}/{name}", strip(lq, sr, gt), iteration)
        return ImageScore(name, scores, scene_of(batch))
