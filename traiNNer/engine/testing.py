"""Whole folders through a checkpoint, ours or the ecosystem's."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from rich.table import Table
from torch import Tensor, nn

from traiNNer.archs.loading import load_model, load_weights
from traiNNer.data import eval_batches
from traiNNer.engine.logs import print_table
from traiNNer.engine.plan import plural
from traiNNer.engine.progress import ProgressBar
from traiNNer.engine.validation import (
    ImageScore,
    Metric,
    ValidationResult,
    build_metrics,
    free_name,
    image_name,
    judge,
    require_sizes,
)
from traiNNer.ops.color import to_uint8
from traiNNer.ops.tiling import tiled_forward
from traiNNer.options.schema import TestOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import CheckpointError
from traiNNer.utils.images import write_image

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upscaler:
    """A network in evaluation mode and what is needed to feed it."""

    network: nn.Module
    scale: int
    size_multiple: int
    min_size: int
    runtime: Runtime
    tile_size: int
    tile_overlap: int

    @classmethod
    def load(cls, options: TestOptions, runtime: Runtime) -> Upscaler:
        """Read the checkpoint that the options name.

        Raises:
            CheckpointError: if it cannot be read, is of no known architecture, or has another scale than expected.
        """
        path = Path(options.path.pretrain_network_g or "")
        if options.network_g is not None and options.scale is not None:
            spec, scale = options.network_g.entry, options.scale
            network = cast(nn.Module, spec(scale=scale, **options.network_g.params))
            report = load_weights(network, path, strict=options.path.strict_load_g, what="network_g")
            log.info("%s", report.summary())
            name, multiple, smallest = options.network_g.type, spec.size_multiple, spec.min_size
        else:
            loaded = load_model(path)
            network, scale, name = loaded.network, loaded.scale, loaded.name
            multiple, smallest = loaded.size_multiple, loaded.min_size
        if options.scale is not None and scale != options.scale:
            raise CheckpointError(
                f"{path} holds {name} at scale {scale}, and the options say scale {options.scale}; "
                "leave `scale` out to take the checkpoint's"
            )
        log.info("%s: %s x%d, %s", path, name, scale, runtime)
        network = network.to(runtime.device, memory_format=runtime.memory_format).eval()  # pyright: ignore[reportCallIssue]
        forward = cast(nn.Module, torch.compile(network)) if runtime.compile else network
        return cls(forward, scale, multiple, smallest, runtime, options.val.tile_size, options.val.tile_overlap)

    @torch.inference_mode()
    def __call__(self, lq: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, 3, H * scale, W * scale)`, both in main memory; tiles visit the device."""

        def forward(tile: Tensor) -> Tensor:
            with self.runtime.autocast():
                return self.network(tile.contiguous(memory_format=self.runtime.memory_format)).float()

        return tiled_forward(
            forward,
            lq,
            scale=self.scale,
            tile_size=self.tile_size or None,
            overlap=self.tile_overlap,
            size_multiple=self.size_multiple,
            min_size=self.min_size,
            device=self.runtime.device,
        )


def test_dataset(name: str, dataset: Any, upscaler: Upscaler, options: TestOptions, folder: Path) -> None:
    """Upscale every image of a dataset into `folder`, and print a table of scores where there is GT."""
    log.info("%s: %s", name, dataset.summary())
    metrics = build_metrics(options.val.metrics, upscaler.scale)
    require_sizes(dataset, metrics)
    images: list[ImageScore] = []
    written: set[str] = set()
    start = time.perf_counter()
    bar = ProgressBar(len(dataset), 0)
    try:
        for batch in eval_batches(dataset, 0):
            batch_cpu = batch.to("cpu")
            sr = upscaler(batch_cpu.lq).clamp(0, 1)
            if options.val.save_img:
                path = folder / f"{free_name(image_name(batch), written)}.png"
                write_image(path, to_uint8(sr[0]).permute(1, 2, 0).numpy())
            if batch_cpu.gt is not None:
                images.append(ImageScore(image_name(batch), judge(sr, batch_cpu.gt, metrics)))
            bar.advance()
            bar.say(image_name(batch))
    finally:
        bar.close()
    seconds = time.perf_counter() - start
    saved = f", written to {folder}" if options.val.save_img else ""
    log.info("%s: %s in %.1f s%s", name, plural(len(dataset), "image"), seconds, saved)
    if images and metrics:
        print_table(_score_table(ValidationResult(name, images), metrics))


def _score_table(result: ValidationResult, metrics: dict[str, Metric]) -> Table:
    table = Table(title=result.dataset, title_justify="left")
    table.add_column("image")
    for label, metric in metrics.items():
        table.add_column(f"{label} ({metric.unit})" if metric.unit else label, justify="right")
    for image in result.images:
        table.add_row(image.name, *(f"{score:.4f}" for score in image.scores.values()))
    table.add_section()
    table.add_row("mean", *(f"{score:.4f}" for score in result.means.values()))
    return table
