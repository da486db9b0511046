"""Scenes through a checkpoint, folders of frames and video files, in memory that does not grow with
their length.

Reading, the network and writing go on at the same time: reading and writing have a thread each, a
few frames ahead of and behind the network.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import repeat
from pathlib import Path

from torch import Tensor

from traiNNer.data import (
    PairedVideoDataset,
    SceneStream,
    SingleGtVideoDataset,
    SingleVideoDataset,
)
from traiNNer.data.protocols import EvalSet
from traiNNer.engine.logs import print_table
from traiNNer.engine.mishaps import Mishaps
from traiNNer.engine.scoring import Judge, Metric, build_metrics, picture_labels, require_sizes
from traiNNer.inference.background import Behind, read_ahead
from traiNNer.inference.ensemble import Enlarger
from traiNNer.inference.failures import Failures
from traiNNer.inference.network import is_finite
from traiNNer.inference.outputs import (
    Put,
    becomes_video,
    open_output,
    prepare_folder,
    say_new_names,
)
from traiNNer.inference.pace import Pace, Stop
from traiNNer.inference.tables import Scores, say_lost, scene_table
from traiNNer.inference.windows import Windows, upscale_frames
from traiNNer.ops.color import to_float, to_uint8
from traiNNer.options.schema import TestOptions
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.images import image_to_tensor
from traiNNer.utils.names import distinct, shortened
from traiNNer.video.scenes import Scene
from traiNNer.video.writing import require_encoder

log = logging.getLogger(__name__)

# .mp4 or .mkv.
_SUFFIX_BYTES = 4

VideoDataset = SingleVideoDataset | PairedVideoDataset


def check_datasets(
    datasets: Mapping[str, EvalSet], network: Enlarger, options: TestOptions
) -> None:
    """Refuse what cannot be done, before anything is.

    Raises:
        OptionsError: if single images are to go through a network of clips, or scenes are asked for
            a map of the agreement.
        DataError: if PyAV or its encoder are missing.
    """
    for name, dataset in datasets.items():
        if isinstance(dataset, SingleGtVideoDataset):
            raise OptionsError(
                f"datasets.{name} makes LQ while reading, and films are upscaled from the disk; "
                "make LQ with scripts/data_preparation/make_stream_pairs.py, and use type: "
                "PairedVideoDataset"
            )
        if isinstance(dataset, VideoDataset):
            if options.val.agreement_map:
                raise OptionsError(
                    f"val.agreement_map is for pictures, and datasets.{name} gives scenes; leave "
                    "one of them out"
                )
            if options.val.save_img and _makes_videos(dataset, options):
                require_encoder(options.val.video_codec)
        elif network.facts.temporal:
            raise OptionsError(
                f"datasets.{name} gives single images, and {network.facts.name} takes clips of "
                "frames; use type: SingleVideoDataset (or PairedVideoDataset), or a network of "
                "images"
            )


def _makes_videos(dataset: VideoDataset, options: TestOptions) -> bool:
    return any(becomes_video(lq, options.val) for lq, _ in _scenes(dataset))


def upscale_scenes(
    name: str,
    dataset: VideoDataset,
    network: Enlarger,
    options: TestOptions,
    folder: Path,
    failures: Failures,
) -> None:
    """Upscale every scene of a dataset into `folder`, and print a table of scores where there is
    GT.

    A scene of which a frame cannot be read or written goes to `failures`; nothing of it is left,
    and the others are done.

    Raises:
        DiskError: if nothing more can be written at all.
    """
    log.info("%s: %s", name, dataset.summary())
    paired = isinstance(dataset, PairedVideoDataset)
    scale = network.facts.scale
    # Without GT, metrics in the options are no mistake: other sets may have it.
    metrics = build_metrics(options.val.metrics, scale) if paired else {}
    require_sizes(dataset, metrics)
    scenes = _scenes(dataset)
    windows = Windows.of(network.facts, dataset)
    _log_windows(name, dataset, network, windows)
    rows: dict[str, Scores] = {}
    mishaps = Mishaps()
    names = scene_names([lq for lq, _ in scenes])
    labels = picture_labels(names)
    if options.val.save_img:
        say_new_names(name, [lq.path for lq, _ in scenes], [Path(n).name for n in names])
        prepare_folder(folder, _top_names(names, [lq for lq, _ in scenes], options))
    # Python's own handler raises between any two lines, while threads are in the midst of a frame.
    stop = Stop()
    start = time.perf_counter()
    total = sum(len(lq) for lq, _ in scenes)
    with stop, closing(Pace(total)) as pace:
        for (lq, gt), file_name, label in zip(scenes, names, labels, strict=True):
            judge = None if gt is None else SceneJudge(lq, gt, metrics, mishaps)
            flawed: list[int] = []
            try:
                with (
                    open_output(folder, file_name, lq, scale, options.val) as put,
                    # Entered last, so that its threads end before the output is closed.
                    closing(_run(network, lq, windows, put, judge, flawed)) as progress,
                ):
                    for _ in progress:
                        pace.advance(label)
                        stop.check()
            # Whatever does not concern this scene alone is raised again.
            except Exception as error:  # noqa: BLE001
                failures.add(str(lq.path), error)
                continue
            if flawed:
                failures.say(
                    f"{lq.path}: {len(flawed)} of {len(lq)} results, the first of frame "
                    f"{flawed[0]}, are not finite (NaN or infinite), also in fp32, and black there"
                )
            if judge is not None:
                rows[label] = judge.scores
    seconds = time.perf_counter() - start
    place = f", written to {folder}" if options.val.save_img else ""
    log.info(
        "%s: %d frames in %.1f s (%.2f a second)%s", name, total, seconds, total / seconds, place
    )
    say_lost(name, mishaps, metrics)
    if rows and metrics:
        print_table(scene_table(name, rows, metrics))


def scene_names(streams: Sequence[SceneStream]) -> list[str]:
    """What the results of scenes are called, with `/` between folders and without the suffix of a
    video: as the scenes, and no two alike (two roots may hold scenes of one name).
    """
    names: list[str] = []
    for stream in streams:
        parent, slash, last = stream.name.rpartition("/")
        # A film's suffix may grow: that of x.ts becomes .mp4.
        room = _SUFFIX_BYTES if stream.is_video else 0
        names.append(f"{parent}{slash}{shortened(last, room)}")
    return distinct(names)


def _top_names(
    names: Sequence[str], streams: Sequence[SceneStream], options: TestOptions
) -> set[str]:
    """What is going to lie in the folder of the results itself."""
    top: set[str] = set()
    for name, stream in zip(names, streams, strict=True):
        first, slash, _ = name.partition("/")
        if slash or not becomes_video(stream, options.val):
            top.add(first)
        else:
            # Which of them it is depends on the sound.
            top |= {f"{name}.mp4", f"{name}.mkv"}
    return top


class SceneJudge:
    """Scores the frames of a scene.

    Args:
        lq: the scene.
        gt: its GT.
        metrics: by label.
        mishaps: what could not be measured.
    """

    def __init__(
        self,
        lq: SceneStream,
        gt: SceneStream,
        metrics: Mapping[str, Metric],
        mishaps: Mishaps,
    ) -> None:
        self.gt = gt
        self.scores = Scores()
        self._lq = lq
        self._judge = Judge(metrics, mishaps)

    def __call__(self, number: int, sr: Tensor, gt: Tensor) -> None:
        """Score frame `number`, in order: sr (1, 3, H, W) in [0, 1], gt (3, H, W)."""
        path = self._lq.scene.frame_path(number)
        self.scores.add(self._judge(sr, to_float(gt[None]), path, frame=True))


def _scenes(dataset: VideoDataset) -> list[tuple[SceneStream, SceneStream | None]]:
    """LQ and GT of every scene."""
    if isinstance(dataset, SingleVideoDataset):
        return [(stream, None) for stream in dataset.streams]
    return [(_stream(pair.lq), _stream(pair.gt)) for pair in dataset.scenes]


def _stream(scene: Scene) -> SceneStream:
    return SceneStream(scene, scene.name or scene.own_name)


def _log_windows(name: str, dataset: VideoDataset, network: Enlarger, windows: Windows) -> None:
    model = network.facts.name
    if not network.facts.temporal:
        log.info("%s: %s takes single images, so the frames go through it one by one", name, model)
        return
    results = "all of them" if windows.kept > 1 else "the one in the middle"
    note = ""
    if windows.frames != dataset.frames:
        note = f"; clip_size: {dataset.frames} does not count"
    log.info(
        "%s: %s sees %d frames at a time, for %s%s", name, model, windows.frames, results, note
    )


def _run(
    network: Enlarger,
    lq: SceneStream,
    windows: Windows,
    put: Put | None,
    judge: SceneJudge | None,
    flawed: list[int],
) -> Generator[None]:
    """Take one scene through the network, and pause after each frame; `flawed` gets the numbers of
    those whose results are not finite.
    """

    def finish(number: int, sr: Tensor, truth: Tensor | None) -> None:
        if put is not None:
            put(number, to_uint8(sr[0]).permute(1, 2, 0).contiguous().numpy())
        if judge is not None and truth is not None:
            judge(number, sr, truth)

    # Left in the reverse order: the last results are written before the readers are closed.
    with ExitStack() as stack:
        frames = stack.enter_context(closing(read_ahead(_tensors(lq))))
        truths = (
            repeat(None)
            if judge is None
            else stack.enter_context(closing(read_ahead(_tensors(judge.gt))))
        )
        later = stack.enter_context(Behind())
        results = upscale_frames(network, frames, len(lq), windows)
        # Not strict: without GT the truths never end.
        for number, (sr, truth) in enumerate(zip(results, truths, strict=False)):
            if not is_finite(sr):
                flawed.append(number)
            later(finish, number, sr, truth)
            yield


def _tensors(stream: SceneStream) -> Generator[Tensor]:
    yield from map(image_to_tensor, stream.frames())
