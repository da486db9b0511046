"""Single images through a checkpoint: saved, and scored where there is GT."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from torch import Tensor

from traiNNer.data import SampleRequest, SingleImageDataset, collate
from traiNNer.data.protocols import EvalSet
from traiNNer.engine.logs import print_table
from traiNNer.engine.mishaps import Mishaps
from traiNNer.engine.progress import ProgressBar
from traiNNer.engine.scoring import (
    ImageScore,
    Judge,
    Metric,
    ValidationResult,
    build_metrics,
    picture_labels,
    picture_names,
)
from traiNNer.inference.colors import LostColors
from traiNNer.inference.ensemble import Agreement, Enlarger, Ensemble
from traiNNer.inference.failures import Failures
from traiNNer.inference.network import describe_flaw, is_finite
from traiNNer.inference.outputs import prepare_folder, say_new_names
from traiNNer.inference.tables import image_table, say_lost
from traiNNer.ops.color import to_float, to_uint8
from traiNNer.ops.resize import resize
from traiNNer.options.schema import TestOptions
from traiNNer.utils.errors import DataError, TraiNNerError
from traiNNer.utils.images import Pixels, image_to_tensor, write_image
from traiNNer.utils.text import plural

log = logging.getLogger(__name__)
# Standard deviation, in levels of 255, that is white in a map of the agreement: networks that were
# trained alike mostly differ by one or two.
WHITE_LEVELS = 10


def upscale_images(
    name: str,
    dataset: EvalSet,
    network: Enlarger,
    options: TestOptions,
    folder: Path,
    failures: Failures,
) -> None:
    """Upscale every image of a dataset into `folder`, and print a table of scores where there is
    GT.

    Args:
        name: of the dataset.
        dataset: whole images.
        network: to send them through.
        options: of the test.
        folder: for the results.
        failures: gets the images that could not be read, processed, written or judged.

    Raises:
        DiskError: if nothing more can be written at all.
    """
    log.info("%s: %s", name, dataset.summary())
    work = _Work(name, dataset, network, options, folder, failures)
    if options.val.save_img:
        say_new_names(name, work.paths, [f"{stem}.png" for stem in work.names])
        written = {f"{stem}.png" for stem in work.names}
        prepare_folder(folder, written)
        if options.val.agreement_map:
            prepare_folder(maps_of(folder), written)
    start = time.perf_counter()
    bar = ProgressBar(len(dataset), 0)
    done = 0
    try:
        for index in range(len(dataset)):
            try:
                work.process(index)
                done += 1
            # Whatever does not concern this image alone is raised again.
            except Exception as error:  # noqa: BLE001
                failures.add(str(work.paths[index]), error)
            bar.advance()
            bar.say(work.labels[index])
    finally:
        bar.close()
    work.lost.warn()
    seconds = time.perf_counter() - start
    place = f", written to {folder}" if options.val.save_img else ""
    log.info("%s: %s in %.1f s%s", name, plural(done, "image"), seconds, place)
    say_lost(name, work.mishaps, work.metrics)
    if work.scores and work.metrics:
        print_table(image_table(ValidationResult(name, work.scores), work.metrics))


class NotFiniteError(TraiNNerError):
    """A network made no picture of an image."""


class _Work:
    """The images of a dataset, one by one.

    Attributes:
        paths: of the LQ files.
        names: of the results, without suffix.
        labels: the names for people.
        metrics: by label.
        scores: of those that have GT, so far.
        lost: colours that results cannot keep.
        mishaps: metrics that failed.
    """

    def __init__(
        self,
        name: str,
        dataset: EvalSet,
        network: Enlarger,
        options: TestOptions,
        folder: Path,
        failures: Failures,
    ) -> None:
        self._dataset = dataset
        self._network = network
        self._save_to = folder if options.val.save_img else None
        self._failures = failures
        self._maps_agreement = options.val.agreement_map
        self.paths = list(map(Path, dataset.lq_paths))
        self.names = picture_names(dataset)
        self.labels = picture_labels(self.names)
        self.metrics = build_metrics(options.val.metrics, network.facts.scale)
        self.scores: list[ImageScore] = []
        self.lost = LostColors(name)
        self.mishaps = Mishaps()

    def process(self, index: int) -> None:
        """Read, upscale, save, judge.

        Raises:
            DataError: if it cannot be read, or would be replaced by its result.
            DiskError: if the result cannot be written.
            NotFiniteError: if the result is no picture.
        """
        # Without reading processes: decoding an image is short beside upscaling it.
        batch = collate([self._dataset[SampleRequest(index, None, 0)]]).to("cpu")
        assert batch.lq is not None, "what is tested has LQ"
        sr, agreement = self._enlarge(batch.lq)
        if not is_finite(sr):
            raise NotFiniteError(f"{describe_flaw(sr)}; it is not written")
        sr = sr.clamp(0, 1)
        if self._save_to is not None:
            path = self._save_to / f"{self.names[index]}.png"
            _require_other(path, self.paths[index])
            colors = self.lost.read(self.paths[index])
            alpha = _upscale_alpha(self._dataset, index, sr)
            rgb = to_uint8(sr[0]).permute(1, 2, 0).numpy()
            write_image(path, rgb, alpha=alpha, colors=colors)
            if agreement is not None:
                write_image(maps_of(self._save_to) / path.name, agreement_map(agreement))
        if agreement is not None:
            levels = 255 * agreement.deviation.mean().item()
            log.info("%s: results differ by %.2f levels", self.labels[index], levels)
        if batch.gt is not None:
            scores = self._judge(self.paths[index], sr, batch.gt)
            self.scores.append(ImageScore(self.labels[index], scores))

    def _enlarge(self, lq: Tensor) -> tuple[Tensor, Agreement | None]:
        if not self._maps_agreement:
            return self._network(lq), None
        assert isinstance(self._network, Ensemble), "the options ask for several results"
        agreement = self._network.judge(lq)
        return agreement.mean, agreement

    def _judge(self, path: Path, sr: Tensor, gt: Tensor) -> dict[str, float]:
        fitting: dict[str, Metric] = {}
        height, width = gt.shape[-2:]
        for label, metric in self.metrics.items():
            side = metric.min_side
            if min(height, width) >= side:
                fitting[label] = metric
                continue
            self._failures.say(
                f"{path}: no {label}: GT is {width}x{height}, smaller than the {side}x{side} "
                f"pixels that val.metrics.{label} (its window and the cropped border) needs"
            )
        return Judge(fitting, self.mishaps)(sr, gt, str(path), frame=False)


def maps_of(folder: Path) -> Path:
    """The folder of the maps beside that of a set's results."""
    return folder.with_name(f"{folder.name}_agreement")


def agreement_map(agreement: Agreement) -> Pixels:
    """(H, W, 3) uint8: black where results agree, white from `WHITE_LEVELS` on."""
    deviation = agreement.deviation[0].mean(0, keepdim=True)
    return (
        to_uint8((deviation * (255 / WHITE_LEVELS)).clamp(0, 1))
        .expand(3, -1, -1)
        .permute(1, 2, 0)
        .numpy()
    )


def _upscale_alpha(dataset: EvalSet, index: int, sr: Tensor) -> Pixels | None:
    """(H, W) uint8, as large as the result; None where there is no transparency to keep.

    Bicubic and not by the network: so what is opaque stays so, and no edge gets a halo.
    """
    if not isinstance(dataset, SingleImageDataset):
        return None
    alpha = dataset.read_alpha(index)
    if alpha is None:
        return None
    plane = to_float(image_to_tensor(alpha[..., None]))
    enlarged = resize(plane[None], (sr.shape[-2], sr.shape[-1])).clamp(0, 1)
    return to_uint8(enlarged[0, 0]).numpy()


def _require_other(path: Path, source: Path) -> None:
    if path.exists() and path.samefile(source):
        raise DataError(
            f"{path}: the result would replace the image it is made of; choose another "
            "path.results_root"
        )
