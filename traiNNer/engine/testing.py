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
from traiNNer.models import TileSettings, Upscaler
from traiNNer.ops.color import to_uint8
from traiNNer.options.schema import TestOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import CheckpointError
from traiNNer.utils.images import write_image

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TestedNetwork:
    """A network in evaluation mode and what runs it over images."""

    __test__ = False  # no test class, whatever pytest thinks of the name

    network: nn.Module
    upscaler: Upscaler

    @property
    def scale(self) -> int:
        """Factor between input and output sides."""
        return self.upscaler.settings.scale

    @classmethod
    def load(cls, options: TestOptions, runtime: Runtime) -> TestedNetwork:
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
        tiles = TileSettings(scale, multiple, smallest, options.val.tile_size, options.val.tile_overlap)
        return cls(forward, Upscaler(runtime, tiles))

    def __call__(self, lq: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, 3, H * scale, W * scale)`, both in main memory; tiles visit the device."""
        return self.upscaler(self.network, lq)


def test_dataset(name: str, dataset: Any, network: TestedNetwork, options: TestOptions, folder: Path) -> None:
    """Upscale every image of a dataset into `folder`, and print a table of scores where there is GT."""
    log.info("%s: %s", name, dataset.summary())
    metrics = build_metrics(options.val.metrics, network.scale)
    require_sizes(dataset, metrics)
    images: list[ImageScore] = []
    written: set[str] = set()
    start = time.perf_counter()
    bar = ProgressBar(len(dataset), 0)
    try:
        for batch in eval_batches(dataset, 0):
            batch_cpu = batch.to("cpu")
            sr = network(batch_cpu.lq).clamp(0, 1)
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
