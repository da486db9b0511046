"""A checkpoint, ours or the ecosystem's, over whole folders of images, and over the frames of a
scene.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, TypeVar, cast

import torch
from rich.table import Table
from torch import Tensor, nn

from traiNNer.archs.loading import load_model, load_weights
from traiNNer.data import PairedVideoDataset, SceneStream, SingleVideoDataset, eval_batches
from traiNNer.data.sample import stack
from traiNNer.data.scenes import mirrored
from traiNNer.engine.interrupts import EXIT_INTERRUPTED, Interrupts
from traiNNer.engine.logs import console, print_table
from traiNNer.engine.progress import ProgressBar, duration
from traiNNer.engine.validation import (
    ImageScore,
    Judge,
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
from traiNNer.utils.text import plural

log = logging.getLogger(__name__)

T = TypeVar("T")
# frames
_READ_AHEAD = 4
_WRITE_BEHIND = 2
_SAY_EVERY_S = 60


@dataclass(frozen=True)
class TestedNetwork:
    """A network in evaluation mode and what runs it over images or clips.

    Attributes:
        network: the network.
        upscaler: device, precision, tiles.
        name: what it is called in messages.
        temporal: whether it takes clips `(B, T, 3, H, W)`, and not images `(B, 3, H, W)`.
        target: of a clip it makes the frame T // 2 ("center") or every frame ("all"); None for
            images.
        frames: T, where the network takes clips of one length only.
    """

    __test__ = False  # no test class, whatever pytest thinks of the name

    network: nn.Module
    upscaler: Upscaler
    name: str = "the network"
    temporal: bool = False
    target: Literal["center", "all"] | None = None
    frames: int | None = None

    @property
    def scale(self) -> int:
        """Factor between input and output sides."""
        return self.upscaler.settings.scale

    @classmethod
    def load(cls, options: TestOptions, runtime: Runtime) -> TestedNetwork:
        """Read the checkpoint that the options name.

        Raises:
            CheckpointError: if it cannot be read, is of no known architecture, or has another scale
                than expected.
        """
        path = Path(options.path.pretrain_network_g or "")
        if options.network_g is not None and options.scale is not None:
            spec = options.network_g.entry
            scale = options.scale
            network = cast(nn.Module, spec(scale=scale, **options.network_g.params))
            report = load_weights(
                network, path, strict=options.path.strict_load_g, what="network_g"
            )
            log.info("%s", report.summary())
            name = options.network_g.type
            multiple = spec.size_multiple
            smallest = spec.min_size
            clips = (spec.temporal, spec.target, spec.frames_of(options.network_g.params))
        else:
            loaded = load_model(path)
            network = loaded.network
            scale = loaded.scale
            name = loaded.name
            multiple = loaded.size_multiple
            smallest = loaded.min_size
            clips = (loaded.temporal, loaded.target, loaded.frames)
        if options.scale is not None and scale != options.scale:
            raise CheckpointError(
                f"{path} holds {name} at scale {scale}, and the options say scale {options.scale}; "
                "leave `scale` out to take the checkpoint's"
            )
        log.info("%s: %s x%d, %s", path, name, scale, runtime)
        network = runtime.place(network).eval()
        forward = cast(nn.Module, torch.compile(network)) if runtime.compile else network
        tiles = TileSettings(
            scale, multiple, smallest, options.val.tile_size, options.val.tile_overlap
        )
        return cls(forward, Upscaler(runtime, tiles), name, *clips)

    def __call__(self, lq: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, 3, H * scale, W * scale)`, both in main memory; tiles visit the
        device.

        Of clips `(B, T, 3, H, W)` comes the frame in the middle, or with `target` all `(B, T, 3,
        ...)`.
        """
        return self.upscaler(self.network, lq)


@dataclass(frozen=True)
class Windows:
    """How the frames of a scene are handed to a network: in windows that follow each other.

    Numbers beyond the ends of a scene are mirrored around its first or last frame. A network that
    makes the middle of a clip sees one window for each frame. Of one that makes whole clips, about
    the outer quarter on each side is thrown away: so each frame that is kept has that many
    neighbours within its window, and all are computed about twice.

    Attributes:
        frames: in a window.
        stride: distance between the frames of a window.
        first: place in a window of the first frame whose result is kept.
        kept: how many are kept; also the distance between windows.
    """

    frames: int = 1
    stride: int = 1
    first: int = 0
    kept: int = 1

    @classmethod
    def of(
        cls, network: TestedNetwork, dataset: SingleVideoDataset | PairedVideoDataset
    ) -> Windows:
        """Those of a network; the length of a clip is the dataset's where the network takes any."""
        if not network.temporal:
            return cls()
        frames = network.frames or dataset.frames
        stride = dataset.frame_stride if isinstance(dataset, PairedVideoDataset) else 1
        if network.target == "all" and stride == 1:
            margin = (frames + 1) // 4
            return cls(frames, 1, margin, frames - 2 * margin)
        return cls(frames, stride, frames // 2, 1)

    @property
    def span(self) -> int:
        """Frames from the first to the last one of a window."""
        return (self.frames - 1) * self.stride + 1

    def numbers(self, start: int, length: int) -> list[int]:
        """The frames of the window whose results are kept from frame `start` on, in a scene of
        `length`.
        """
        first = start - self.first * self.stride
        return [mirrored(first + self.stride * place, length) for place in range(self.frames)]


def upscale_frames(
    network: TestedNetwork, frames: Iterator[Tensor], length: int, windows: Windows
) -> Iterator[Tensor]:
    """The results of all frames of a scene in order, `(1, 3, H, W)` float32 each.

    Args:
        network: what makes them.
        frames: `(3, h, w)` each, uint8 or float32 in [0, 1], `length` of them. No more than a
            window is kept.
        length: of the scene.
        windows: what the network is given at a time.
    """
    recent: deque[Tensor] = deque(maxlen=windows.span)
    read = 0
    for start in range(0, length, windows.kept):
        numbers = windows.numbers(start, length)
        while read <= max(numbers):
            recent.append(next(frames))
            read += 1
        lq = to_float(stack([recent[number - read] for number in numbers]))
        made = network(lq[None] if network.temporal else lq)
        if made.ndim == 5:
            made = made[0, windows.first : windows.first + windows.kept]
        for place in range(min(windows.kept, length - start)):
            yield made[place : place + 1]


def read_ahead(items: Generator[T]) -> Generator[T]:
    """The same items, made by a thread that is a few of them ahead."""
    end = object()
    pool = ThreadPoolExecutor(1)
    try:
        waiting = deque(pool.submit(next, items, end) for _ in range(_READ_AHEAD))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item  # pyright: ignore[reportReturnType]  # not the end, so it is one of the items
    finally:
        pool.shutdown(cancel_futures=True)
        items.close()


class Behind:
    """Makes calls one after the other in a thread, a few of them late. What one raises is raised by
    a later call, or at the end of the context."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __call__(self, function: Callable[..., None], *arguments: Any) -> None:
        while len(self._waiting) >= _WRITE_BEHIND:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(function, *arguments))

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            while kind is None and self._waiting:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)


class Stop(Interrupts):
    """While the context is active, Ctrl-C and SIGTERM take effect at `check` alone, where no thread
    is in the midst of something. Once more ends the program at once."""

    def check(self) -> None:
        """Between two frames.

        Raises:
            KeyboardInterrupt: if somebody wants the run to stop.
        """
        if self.requested:
            raise KeyboardInterrupt

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            os._exit(EXIT_INTERRUPTED)
        self.requested = True
        with contextlib.suppress(OSError):  # the terminal may be gone
            sys.stderr.write(
                f"\n{signal.Signals(number).name}: stopping after this frame; once more ends at "
                "once\n"
            )
            sys.stderr.flush()


class Pace:
    """The bar, with the frames per second and the time that is left; without a terminal a line now
    and then.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._bar = ProgressBar(total, 0)
        self._start = self._said = time.perf_counter()

    def advance(self, scene: str) -> None:
        """One frame more, of that scene."""
        self._done += 1
        now = time.perf_counter()
        rate = self._done / max(now - self._start, 1e-9)
        text = f"{scene}: {rate:.2f} frames/s, {duration((self._total - self._done) / rate)} left"
        self._bar.advance()
        self._bar.say(text)
        if not console.is_terminal and now - self._said > _SAY_EVERY_S:
            self._said = now
            log.info("%d of %d frames, %s", self._done, self._total, text)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


def to_float(pixels: Tensor) -> Tensor:
    """float32 in [0, 1] of uint8 in 0 to 255, or of what is in [0, 1] already."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels.float()


def test_dataset(
    name: str, dataset: Any, network: TestedNetwork, options: TestOptions, folder: Path
) -> None:
    """Upscale every image of a dataset into `folder`, and print a table of scores where there is
    GT.
    """
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
        table.add_row(image.name, *score_cells(metrics, image.scores))
    table.add_section()
    table.add_row("mean", *score_cells(metrics, result.means))
    return table


def score_cells(metrics: Iterable[str], scores: Mapping[str, float]) -> list[str]:
    """A cell for each metric, empty where there is no score, as flicker of a single image."""
    return [f"{scores[label]:.4f}" if label in scores else "" for label in metrics]


@dataclass
class Scores:
    """The scores of many frames as their sums, which take the same space for any number of them."""

    frames: int = 0
    sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, scores: Mapping[str, float]) -> None:
        """Take in those of a frame."""
        self.frames += 1
        for label, score in scores.items():
            self.sums[label] += score
            self.counts[label] += 1

    def join(self, other: Scores) -> None:
        """Take in those of other frames."""
        self.frames += other.frames
        for label, value in other.sums.items():
            self.sums[label] += value
            self.counts[label] += other.counts[label]

    @property
    def means(self) -> dict[str, float]:
        """By metric label, over the frames that have a score."""
        return {label: value / self.counts[label] for label, value in self.sums.items()}


class SceneJudge:
    """Scores the frames of a scene.

    Args:
        lq: the scene.
        gt: its GT.
        metrics: by label.
    """

    def __init__(self, lq: SceneStream, gt: SceneStream, metrics: Mapping[str, Metric]) -> None:
        self.gt = gt
        self.scores = Scores()
        self._lq = lq
        self._judge = Judge(metrics)

    def __call__(self, number: int, sr: Tensor, gt: Tensor) -> None:
        """Score frame `number`, in order: sr (1, 3, H, W) in [0, 1], gt (3, H, W)."""
        path = self._lq.scene.frame_path(number)
        self.scores.add(self._judge(sr, to_float(gt[None]), path, frame=True))


def scene_table(name: str, rows: Mapping[str, Scores], metrics: Mapping[str, Metric]) -> Table:
    table = Table(title=name, title_justify="left")
    table.add_column("scene")
    table.add_column("frames", justify="right")
    for label, metric in metrics.items():
        table.add_column(f"{label} ({metric.unit})" if metric.unit else label, justify="right")
    total = Scores()
    for scene, scores in rows.items():
        total.join(scores)
        table.add_row(scene, str(scores.frames), *score_cells(metrics, scores.means))
    table.add_section()
    table.add_row("mean of all frames", str(total.frames), *score_cells(metrics, total.means))
    return table
