"""Scenes through a checkpoint, folders of frames and video files, in memory that does not grow with
their length.

Reading, the network and writing go on at the same time: reading and writing have a thread each, a
few frames ahead of and behind the network.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from traiNNer.data import PairedVideoDataset, SceneStream, SingleVideoDataset
from traiNNer.data.scenes import Scene
from traiNNer.data.video_colors import Frame, import_av
from traiNNer.data.video_files import Video, open_video, reason_of, video_errors
from traiNNer.data.video_writing import Encoding, VideoWriter, require_encoder, staging, write_frame
from traiNNer.engine.logs import print_table
from traiNNer.engine.setup import is_video
from traiNNer.engine.testing import (
    Behind,
    Pace,
    SceneJudge,
    Scores,
    Stop,
    TestedNetwork,
    Windows,
    read_ahead,
    scene_table,
    upscale_frames,
)
from traiNNer.engine.validation import build_metrics, free_name, require_sizes
from traiNNer.ops.color import to_uint8
from traiNNer.options.schema import TestOptions, TestValOptions
from traiNNer.utils.errors import DataError, DiskError, OptionsError
from traiNNer.utils.images import image_to_tensor

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import Container, OutputContainer
    from av.stream import Stream

log = logging.getLogger(__name__)

VideoDataset = SingleVideoDataset | PairedVideoDataset
# Takes the number of a frame and its pixels, in order.
Put = Callable[[int, Frame], None]

_MATROSKA = (".mkv", ".webm")
_BROADCAST = "mpeg"  # FFmpeg's names of formats whose clock begins anywhere begin so
_FALLBACK_RATE = Fraction(25)  # of a file that does not tell


def check_datasets(
    datasets: Mapping[str, Any], network: TestedNetwork, options: TestOptions
) -> None:
    """Refuse what cannot be done, before anything is.

    Raises:
        OptionsError: if single images are to go through a network of clips.
        DataError: if PyAV or its encoder are missing.
    """
    for name, dataset in datasets.items():
        if not is_video(dataset):
            if network.temporal:
                raise OptionsError(
                    f"datasets.{name} gives single images, and {network.name} takes clips of "
                    "frames; use type: SingleVideoDataset (or PairedVideoDataset), or a network of "
                    "images"
                )
        elif options.val.save_img and any(
            _becomes_video(lq, options.val) for lq, _ in _scenes(dataset)
        ):
            require_encoder(options.val.video_codec)


def upscale_scenes(
    name: str, dataset: VideoDataset, network: TestedNetwork, options: TestOptions, folder: Path
) -> None:
    """Upscale every scene of a dataset into `folder`, and print a table of scores where there is
    GT.

    Raises:
        DataError, DiskError: if a frame cannot be read or written. Nothing of its scene is left;
            those before it stay.
    """
    log.info("%s: %s", name, dataset.summary())
    paired = isinstance(dataset, PairedVideoDataset)
    metrics = build_metrics(options.val.metrics, network.scale) if paired else {}
    require_sizes(dataset, metrics)
    scenes = _scenes(dataset)
    windows = Windows.of(network, dataset)
    _say_how(name, dataset, network, windows)
    rows: dict[str, Scores] = {}
    taken = set[str]()
    stop = Stop()
    start = time.perf_counter()
    total = sum(len(lq) for lq, _ in scenes)
    with stop, closing(Pace(total)) as pace:
        for lq, gt in scenes:
            own = free_name(lq.name, taken)
            judge = None if gt is None else SceneJudge(lq, gt, metrics)
            with (
                _output(folder, own, lq, network.scale, options.val) as put,
                closing(
                    _run(network, lq, windows, put, judge)
                ) as done,  # its threads end before the output is closed
            ):
                for _ in done:
                    pace.advance(own)
                    stop.check()
            if judge is not None:
                rows[own] = judge.scores
    seconds = time.perf_counter() - start
    saved = f", written to {folder}" if options.val.save_img else ""
    log.info(
        "%s: %d frames in %.1f s (%.2f a second)%s", name, total, seconds, total / seconds, saved
    )
    if rows and metrics:
        print_table(scene_table(name, rows, metrics))


def _scenes(dataset: VideoDataset) -> list[tuple[SceneStream, SceneStream | None]]:
    """LQ and GT of every scene."""
    if isinstance(dataset, SingleVideoDataset):
        return [(stream, None) for stream in dataset.streams]
    return [(_stream(pair.lq), _stream(pair.gt)) for pair in dataset.scenes]


def _stream(scene: Scene) -> SceneStream:
    own = scene.path.stem if scene.video is not None else scene.path.absolute().name
    return SceneStream(scene, scene.name or own)


def _say_how(name: str, dataset: VideoDataset, network: TestedNetwork, windows: Windows) -> None:
    if not network.temporal:
        log.info(
            "%s: %s takes single images, so the frames go through it one by one", name, network.name
        )
        return
    around = "all of them" if windows.kept > 1 else "the one in the middle"
    ignored = (
        f"; clip_size: {dataset.frames} does not count" if windows.frames != dataset.frames else ""
    )
    log.info(
        "%s: %s sees %d frames at a time, for %s%s",
        name,
        network.name,
        windows.frames,
        around,
        ignored,
    )


def _run(
    network: TestedNetwork,
    lq: SceneStream,
    windows: Windows,
    put: Put | None,
    judge: SceneJudge | None,
) -> Generator[None]:
    """Take one scene through the network, and pause after each frame."""

    def finish(number: int, sr: Tensor, truth: Tensor | None) -> None:
        if put is not None:
            put(number, to_uint8(sr[0]).permute(1, 2, 0).contiguous().numpy())
        if judge is not None and truth is not None:
            judge(number, sr, truth)

    with ExitStack() as stack:
        frames = stack.enter_context(closing(read_ahead(_tensors(lq))))
        truths = (
            repeat(None)
            if judge is None
            else stack.enter_context(closing(read_ahead(_tensors(judge.gt))))
        )
        later = stack.enter_context(Behind())
        results = upscale_frames(network, frames, len(lq), windows)
        for number, (sr, truth) in enumerate(zip(results, truths, strict=False)):
            later(finish, number, sr, truth)
            yield


def _tensors(stream: SceneStream) -> Generator[Tensor]:
    yield from map(image_to_tensor, stream.frames())


def _becomes_video(stream: SceneStream, options: TestValOptions) -> bool:
    return options.save_as == "video" or (options.save_as == "auto" and stream.is_video)


@contextmanager
def _output(
    folder: Path, name: str, stream: SceneStream, scale: int, options: TestValOptions
) -> Iterator[Put | None]:
    """Where the results of a scene go: whole, or not at all if the context ends with an error."""
    if not options.save_img:
        yield None
    elif not _becomes_video(stream, options):
        with _frames_into(folder / name, stream) as put:
            yield put
    else:
        with ExitStack() as stack:
            source = (
                stack.enter_context(closing(_Source(stream.scene.video)))
                if stream.scene.video
                else None
            )
            path = folder / f"{name}{source.choose_suffix() if source else '.mp4'}"
            _require_other(path, stream)
            size = (stream.width * scale, stream.height * scale)
            encoding = _encoding(path, size, options)
            if source is None:
                writer = stack.enter_context(
                    VideoWriter(path, size, _rate(options.video_fps), encoding)
                )
                yield lambda _, rgb: writer.write(rgb)
            else:
                copier = stack.enter_context(_Copier(source, path, size, encoding))
                yield lambda number, rgb: copier.write(rgb, source.time(number))


@contextmanager
def _frames_into(folder: Path, stream: SceneStream) -> Iterator[Put]:
    _require_other(folder, stream)
    with staging(folder) as place:
        made = place / folder.name
        yield lambda number, rgb: write_frame(made / f"{stream.frame_name(number)}.png", rgb)
        try:
            if not folder.exists():
                made.rename(folder)
                return
            for file in (
                made.iterdir()
            ):  # the folder may hold the results of other scenes, in folders below it
                file.replace(folder / file.name)
        except OSError as error:
            raise DiskError(f"cannot write {folder}: {error.strerror or error}") from error


def _require_other(path: Path, stream: SceneStream) -> None:
    if path.resolve() == stream.path.resolve():
        raise DataError(
            f"{path}: the result would replace the scene it is made of; choose another "
            "path.results_root"
        )


def _rate(fps: float) -> Fraction:
    """23.976, 29.97 and 59.94 mean those of television."""
    television = Fraction(round(fps) * 1000, 1001)
    return television if abs(television - Fraction(fps)) < Fraction(1, 1000) else Fraction(str(fps))


def _encoding(path: Path, size: tuple[int, int], options: TestValOptions) -> Encoding:
    odd = any(side % 2 for side in size)
    if odd:
        log.warning(
            "%s: %dx%d is odd, so the colours keep their full resolution (yuv444p), which some "
            "players do not take",
            path, *size,
        )  # fmt: skip
    pixel_format = "yuv444p" if odd else "yuv420p"
    return Encoding(
        options.video_codec, crf=options.video_crf, pixel_format=pixel_format, threads=0
    )


class _Source:
    """What a new file takes over from a video: its timing, and as they are its sound, subtitles and
    chapters.

    Args:
        video: the index of the file, which is opened.

    Raises:
        DataError: if it cannot be opened.
    """

    def __init__(self, video: Video) -> None:
        self.video = video
        self._container, self._picture = open_video(video.path)
        anywhere = self._container.format.name.startswith(_BROADCAST)
        self._origin = (
            Fraction(self._container.start_time or 0, 1_000_000) if anywhere else Fraction(0)
        )
        self._copies: dict[int, Stream] = {}
        self._times: dict[
            int, tuple[int, int]
        ] = {}  # of the last packet, and of the end of it, by stream
        self._packets: Iterator[Packet] = iter(())
        self._next: Packet | None = None

    @property
    def time_base(self) -> Fraction | None:
        """Seconds in a unit of `time`; None where the file has no times of use, but frames at equal
        distances.
        """
        return self._picture.time_base if self.video.timed else None

    @property
    def fps(self) -> Fraction:
        """Frames per second, the mean where it varies."""
        return self.video.fps or _FALLBACK_RATE

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel in its heights, as shown."""
        aspect = self._picture.sample_aspect_ratio or Fraction(1)
        return 1 / aspect if self.video.rotation % 180 else aspect

    def time(self, number: int) -> int | None:
        """When a frame is shown, in units of `time_base`."""
        if self.time_base is None:
            return None
        return int(self.video.pts[number]) - round(self._origin / self.time_base)

    def choose_suffix(self) -> str:
        """.mp4; or .mkv, where the file is Matroska or .mp4 does not take its sound."""
        if self.video.path.suffix.lower() in _MATROSKA:
            return ".mkv"
        refused = [
            stream.name or "unknown"
            for stream in self._container.streams.audio
            if not _mp4_takes(stream)
        ]
        if not refused:
            return ".mp4"
        said = ", ".join(refused)
        log.warning(
            "%s: .mp4 does not take its sound (%s), so the result is a .mkv", self.video.path, said
        )
        return ".mkv"

    def join(self, target: OutputContainer) -> None:
        """Add the streams to a new file whose picture is there, and begin it. What it does not take
        is left out.
        """
        from av.stream import Discard

        streams = (*self._container.streams.audio, *self._container.streams.subtitles)
        for stream in streams:
            try:
                copy = target.add_stream_from_template(stream)
            except ValueError:
                log.warning(
                    "%s: its %s %s cannot be copied and is left out",
                    self.video.path,
                    stream.type,
                    stream.name or "",
                )
                continue
            copy.metadata.update(_texts(stream))
            copy.disposition = stream.disposition
            self._copies[stream.index] = copy
        target.metadata.update(_texts(self._container))
        target.set_chapters(self._container.chapters())
        target.start_encoding()
        copied = [stream for stream in streams if stream.index in self._copies]
        for stream in self._container.streams:
            if stream not in copied:
                stream.discard = Discard.all
        self._packets = self._container.demux(*copied) if copied else iter(())
        self._next = self._read()

    def copy(self, target: OutputContainer, until: Fraction | None) -> None:
        """Copy what begins at `until` (seconds) or before; None: all that is left."""
        while self._next is not None:
            packet = self._next
            if (
                until is not None
                and packet.dts is not None
                and packet.dts * packet.time_base > until
            ):
                return
            self._next = self._read()
            packet.stream = self._copies[packet.stream_index]
            target.mux(packet)

    def close(self) -> None:
        """Close the file."""
        self._packets = iter(())
        self._next = None
        self._container.close()

    def _read(self) -> Packet | None:
        """The next packet, with times that ascend within its stream; None at the end."""
        try:
            for packet in self._packets:
                if packet.size and self._set_time(packet):
                    return packet
        except video_errors() as error:
            raise DataError(
                f"{self.video.path}: its sound is damaged ({reason_of(error)}); copy or download "
                "it again, or set val.save_as: frames"
            ) from error
        return None

    def _set_time(self, packet: Packet) -> bool:
        """Whether there is a time for the packet behind that of the one before it. Containers
        refuse all else.
        """
        last, following = self._times.get(packet.stream_index, (None, 0))
        if packet.dts is None:
            packet.dts = following if packet.pts is None else packet.pts
        if packet.pts is None:
            packet.pts = packet.dts
        if last is not None and packet.dts < last + (packet.stream.type != "subtitle"):
            return False
        self._times[packet.stream_index] = packet.dts, packet.dts + (packet.duration or 0)
        shift = round(self._origin / packet.time_base)
        packet.dts = packet.dts - shift
        packet.pts = packet.pts - shift
        return True


class _Copier(VideoWriter):
    """A video file with the sound of another one."""

    def __init__(
        self, source: _Source, path: Path, size: tuple[int, int], encoding: Encoding
    ) -> None:
        super().__init__(path, size, source.fps, encoding, time_base=source.time_base)
        self._source = source
        self.pixel_aspect = source.pixel_aspect

    def __enter__(self) -> _Copier:
        super().__enter__()
        try:
            with self._explained():
                self._source.join(self._container)
        except BaseException:
            self._discard()
            raise
        return self

    def _mux(self, frame: VideoFrame | None) -> list[Packet]:
        packets = super()._mux(frame)
        # What is written is not far behind in any stream, or the container would hold the others
        # back in memory.
        times = [packet.dts * packet.time_base for packet in packets if packet.dts is not None]
        if times or frame is None:
            with self._explained():
                self._source.copy(self._container, None if frame is None else max(times))
        return packets

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DiskError(f"cannot write {self.path}: {error.strerror or error}") from error
        except video_errors() as error:
            raise DataError(
                f"{self._source.video.path}: its sound cannot be copied into {self.path} "
                f"({reason_of(error)}); remove it from the file, or set val.save_as: frames"
            ) from error


def _texts(part: Container | Stream) -> dict[str, str]:
    return {key: part.metadata[key] for key in ("title", "language") if key in part.metadata}


def _mp4_takes(stream: Stream) -> bool:
    """Whether packets of a stream can be copied into .mp4."""
    with import_av().open(io.BytesIO(), "w", format="mp4") as probe:
        try:
            probe.add_stream_from_template(stream)
        except ValueError:
            return False
    return True
