"""Single images through a checkpoint: saved, and scored where there is GT."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from traiNNer.data import eval_batches
from traiNNer.data.protocols import EvalSet
from traiNNer.engine.logs import print_table
from traiNNer.engine.progress import ProgressBar
from traiNNer.engine.scoring import (
    ImageScore,
    ValidationResult,
    build_metrics,
    free_name,
    image_name,
    judge,
    require_sizes,
)
from traiNNer.inference.network import RunningNetwork
from traiNNer.inference.tables import image_table
from traiNNer.ops.color import to_uint8
from traiNNer.options.schema import TestOptions
from traiNNer.utils.images import write_image
from traiNNer.utils.text import plural

log = logging.getLogger(__name__)


def upscale_images(
    name: str,
    dataset: EvalSet,
    network: RunningNetwork,
    options: TestOptions,
    folder: Path,
) -> None:
    """Upscale every image of a dataset into `folder`, and print a table of scores where there is
    GT.
    """
    log.info("%s: %s", name, dataset.summary())
    metrics = build_metrics(options.val.metrics, network.facts.scale)
    require_sizes(dataset, metrics)
    scores: list[ImageScore] = []
    # Images of one name from different folders end up in one folder.
    names_in_use: set[str] = set()
    start = time.perf_counter()
    bar = ProgressBar(len(dataset), 0)
    try:
        # Without reading processes: decoding an image is short beside upscaling it.
        for batch in eval_batches(dataset, 0):
            batch_cpu = batch.to("cpu")
            assert batch_cpu.lq is not None, "what is tested has LQ"
            sr = network(batch_cpu.lq).clamp(0, 1)
            if options.val.save_img:
                path = folder / f"{free_name(image_name(batch), names_in_use)}.png"
                write_image(path, to_uint8(sr[0]).permute(1, 2, 0).numpy())
            if batch_cpu.gt is not None:
                scores.append(ImageScore(image_name(batch), judge(sr, batch_cpu.gt, metrics)))
            bar.advance()
            bar.say(image_name(batch))
    finally:
        bar.close()
    seconds = time.perf_counter() - start
    place = f", written to {folder}" if options.val.save_img else ""
    log.info("%s: %s in %.1f s%s", name, plural(len(dataset), "image"), seconds, place)
    if scores and metrics:
        print_table(image_table(ValidationResult(name, scores), metrics))
