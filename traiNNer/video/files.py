"""Which frames a video file has: an index, made from its packets without decoding, and remembered.

PyAV is imported when the first video is opened. Whatever is wrong with a file is a `DataError` that
names it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from traiNNer.utils.errors import DataError, DiskError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.scan_cache import cache_path
from traiNNer.video.pyav import import_av

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mpg", ".mpeg", ".wmv",
    ".flv",
)  # fmt: skip

# To be raised when what is remembered changes its meaning: old caches are then read anew.
_CACHE_VERSION = 1
_AGAIN = "copy or download it again, or delete it"
# FFmpeg's names of the formats whose headers say how long the file is, and which are no part of a
# broadcast.
_WHOLE = ("mov,mp4", "matroska", "avi")
# Headers round, and sound may be a packet longer than the picture; a file that was cut short by a
# broken download lacks far more.
_TOLERANCE_S = 0.5
# A step that differs from the others by this share of the usual one is no rounding any more.
_UNEVEN = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """What is known of a video file.

    Attributes:
        path: the file.
        width: in pixels, as shown (after rotation).
        height: in pixels, as shown.
        fps: frames per second, the mean where it varies; None if unknown.
        rotation: degrees that the decoded picture is to be turned counterclockwise: 0, 90, 180 or
            270.
        matrix: number of the YCbCr matrix (ISO/IEC 23091-2), 2 where the file does not say.
        pts: (N,) timestamps of the frames in the order of presentation, in the file's own unit.
        keys: (K,) ascending timestamps of the frames at which decoding can begin.
        timed: False where timestamps are missing or mere guesses: then frames are counted from the
            beginning, and `pts` are their numbers.
        stamp: size in bytes and time of change in ns.
    """

    path: Path
    width: int
    height: int
    fps: Fraction | None
    rotation: int
    matrix: int
    pts: NDArray[np.int64]
    keys: NDArray[np.int64]
    timed: bool
    stamp: tuple[int, int]

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def variable_rate(self) -> bool:
        """Whether the time between frames varies by more than the rounding of timestamps."""
        steps = np.diff(self.pts)
        if not len(steps):
            return False
        # Two units: Matroska counts milliseconds, in which 60 frames a second are 16 or 17.
        allowed = max(2.0, _UNEVEN * float(np.median(steps)))
        return bool(steps.max() - steps.min() > allowed)


def scan_video(path: Path) -> Video:
    """Index a video file: read its packets once, and decode its first frame. A file that was
    indexed is not read again.

    Raises:
        DataError: if it cannot be opened, is damaged or cut short, has no picture, or if PyAV is
            not installed.
    """
    stamp = file_stamp(path)
    cache = cache_path(path)
    video = _load(cache, path, stamp)
    if video is None:
        with opened(path) as (container, stream):
            video = _index(path, stamp, container, stream)
        _save(cache, video)
    return video


def file_stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in ns.

    Raises:
        DataError: if the file is not there or empty.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not status.st_size:
        raise DataError(f"{path}: the file is empty (0 bytes); {_AGAIN}")
    return status.st_size, status.st_mtime_ns


def open_video(path: Path) -> tuple[InputContainer, VideoStream]:
    """The open file and its picture: the first video stream that is no cover art.

    Raises:
        DataError: if it cannot be opened, has no picture, or if PyAV is not installed.
    """
    try:
        av = import_av()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    from av.stream import Disposition

    try:
        # Absolute, because FFmpeg takes `name:rest` for a protocol.
        container = av.open(str(path.absolute()), "r", metadata_errors="replace")
    except video_errors() as error:
        raise DataError(
            f"{path}: not a video that can be opened ({reason_of(error)}); {_AGAIN}"
        ) from error
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return container, stream
    container.close()
    raise DataError(f"{path}: there is no picture in this file that can be decoded; {_AGAIN}")


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """As `open_video`; closed at the end, and what goes wrong inside becomes a `DataError`."""
    container, stream = open_video(path)
    try:
        yield container, stream
    except video_errors() as error:
        raise DataError(
            f"{path}: the video is damaged or cut short ({reason_of(error)}); {_AGAIN}"
        ) from error
    finally:
        container.close()


def video_errors() -> tuple[type[Exception], ...]:
    """What PyAV raises for a file that cannot be read. To be called where PyAV is there."""
    from av.error import FFmpegError

    return FFmpegError, OSError, ValueError


def reason_of(error: Exception) -> str:
    """FFmpeg's words for what went wrong."""
    return str(getattr(error, "strerror", None) or error)


def decode(
    packets: Iterable[Packet[Any]], stream: VideoStream, timed: bool
) -> Iterator[VideoFrame]:
    """The frames of the packets in order, from the first keyframe on.

    Frames that are shown before that keyframe are left out: they refer to earlier ones.
    """
    key: int | None = None
    begun = False
    for packet in packets:
        if not packet.size:  # the end of the file, or "as before" in AVI
            continue
        if not begun:
            if not packet.is_keyframe:
                continue
            key = packet.pts
            begun = True
        elif timed and key is not None and packet.pts is not None and packet.pts < key:
            continue
        yield from stream.codec_context.decode(packet)
    if begun:
        yield from stream.codec_context.decode(None)


@dataclass
class _Packets:
    """What is learned from the packets of a file."""

    pts: list[int | None] = field(default_factory=list)
    keys: list[int | None] = field(default_factory=list)
    reordered: bool = False
    end_s: float = 0.0

    def add(self, packet: Packet[Any]) -> None:
        if packet.is_keyframe:
            self.keys.append(packet.pts)
        if self.keys and not packet.is_discard:
            self.pts.append(packet.pts)
        self.reordered |= packet.pts != packet.dts

    def see_end(self, packet: Packet[Any]) -> None:
        last = packet.pts if packet.pts is not None else packet.dts
        if last is not None and packet.time_base:
            self.end_s = max(self.end_s, float((last + (packet.duration or 0)) * packet.time_base))

    def timestamps(self) -> tuple[list[int], list[int]] | None:
        """The times of the frames and of the keyframes, ascending; None where they are no use."""
        # With one time missing, or one that two frames share, frames cannot be found by time.
        pts = [time for time in self.pts if time is not None]
        keys = [time for time in self.keys if time is not None]
        complete = len(pts) == len(self.pts) and len(keys) == len(self.keys)
        if not complete or len(set(pts)) < len(pts):
            return None
        # What is shown before the first keyframe refers to frames that were cut off.
        return sorted(time for time in pts if time >= keys[0]), sorted(keys)


def _index(
    path: Path, stamp: tuple[int, int], container: InputContainer, stream: VideoStream
) -> Video:
    first = _first_frame(path, container, stream)
    rotation = round(first.rotation / 90) * 90
    if abs(first.rotation - rotation) > 1:  # FFmpeg cuts it off to whole degrees
        raise DataError(
            f"{path}: the picture is rotated by {first.rotation} degrees; encode it anew without "
            "rotation"
        )
    width, height = (first.height, first.width) if rotation % 180 else (first.width, first.height)
    packets = _read_packets(path, stream.index)
    _check_duration(path, container, packets.end_s)
    codec = stream.codec_context.name
    # AVI has no timestamps of reordered frames: FFmpeg guesses them. A packet of VP8 may hold no
    # frame to be shown.
    guessed = "avi" in container.format.name and (packets.reordered or codec in ("h264", "hevc"))
    times = None if guessed or codec == "vp8" else packets.timestamps()
    timed = times is not None
    if times is None:
        log.info(
            "%s: its timestamps do not tell the frames, so they are counted by decoding it once",
            path,
        )
        times = list(range(_count(path))), [0]
    if not times[0]:
        raise DataError(f"{path}: there is no frame in it; {_AGAIN}")
    fps = stream.average_rate or stream.guessed_rate
    return Video(
        path=path,
        width=width,
        height=height,
        fps=None if fps is None else Fraction(fps),
        rotation=rotation % 360,
        matrix=int(first.colorspace),
        pts=np.array(times[0], np.int64),
        keys=np.array(times[1], np.int64),
        timed=timed,
        stamp=stamp,
    )


def _first_frame(path: Path, container: InputContainer, stream: VideoStream) -> VideoFrame:
    # Files are scanned by several threads, so one for each decoder is enough.
    stream.codec_context.thread_count = 1
    frame = next(decode(container.demux(stream), stream, timed=True), None)
    if frame is None:
        raise DataError(f"{path}: there is no frame in it that can be decoded; {_AGAIN}")
    return frame


def _read_packets(path: Path, index: int) -> _Packets:
    packets = _Packets()
    # A container of its own: the first frame has moved the other one along.
    with opened(path) as (container, _):
        for packet in container.demux():
            packets.see_end(packet)
            if packet.stream.index != index or not packet.size:
                continue
            # In a broadcast it is one of many; the frame will tell when it is decoded.
            if packet.is_corrupt and container.format.name.startswith(_WHOLE):
                raise DataError(
                    f"{path}: the video is damaged or cut short at {packets.end_s:.2f} s; {_AGAIN}"
                )
            packets.add(packet)
    return packets


def _check_duration(path: Path, container: InputContainer, end_s: float) -> None:
    if not container.duration or not container.format.name.startswith(_WHOLE):
        return
    # Some files begin before 0, with samples that prime the decoder and are not part of the length.
    start_s = min(0.0, (container.start_time or 0) / 1_000_000)
    expected_s = container.duration / 1_000_000 + start_s
    if end_s < expected_s - _TOLERANCE_S:
        raise DataError(
            f"{path}: the video is cut short: its header says {expected_s:.2f} s, and it ends at "
            f"{end_s:.2f} s; {_AGAIN}"
        )


def _count(path: Path) -> int:
    with opened(path) as (container, stream):
        stream.codec_context.thread_count = 1
        return sum(1 for _ in decode(container.demux(stream), stream, timed=False))


def _load(cache: Path | None, path: Path, stamp: tuple[int, int]) -> Video | None:
    """What is remembered of the file; None if nothing is, it has changed, or the cache is
    damaged.
    """
    if cache is None or not cache.is_file():
        return None
    try:
        known = json.loads(cache.read_bytes())
        if known["version"] != _CACHE_VERSION or tuple(known["stamp"]) != stamp:
            return None
        return Video(
            path=path,
            width=int(known["width"]),
            height=int(known["height"]),
            fps=None if known["fps"] is None else Fraction(known["fps"]),
            rotation=int(known["rotation"]),
            matrix=int(known["matrix"]),
            pts=_expand(known["pts"]),
            keys=_expand(known["keys"]),
            timed=bool(known["timed"]),
            stamp=stamp,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        log.debug("what is remembered in %s is ignored: %r", cache, error)
        return None


def _save(cache: Path | None, video: Video) -> None:
    if cache is None:
        return
    content = {
        "version": _CACHE_VERSION,
        "stamp": video.stamp,
        "width": video.width,
        "height": video.height,
        "fps": None if video.fps is None else str(video.fps),
        "rotation": video.rotation,
        "matrix": video.matrix,
        "pts": _compress(video.pts),
        "keys": _compress(video.keys),
        "timed": video.timed,
    }
    try:
        write_atomic(cache, json.dumps(content).encode())
    except (DiskError, OSError) as error:  # a full or read-only home is no reason not to train
        log.debug("the index of %s is not remembered: %s", video.path, error)


def _compress(times: NDArray[np.int64]) -> list[int]:
    """The first time, then pairs of a step and how often it is repeated: mostly three numbers for a
    whole film.
    """
    # All times of a film of two hours would be more than a megabyte of JSON, and slow to read.
    steps = np.diff(times)
    ends = [*(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)] if len(steps) else []
    packed = [int(times[0])]
    begin = 0
    for end in ends:
        packed += [int(steps[begin]), end - begin]
        begin = end
    return packed


def _expand(packed: list[int]) -> NDArray[np.int64]:
    steps = np.repeat(np.array(packed[1::2], np.int64), np.array(packed[2::2], np.int64))
    return packed[0] + np.concatenate([np.zeros(1, np.int64), np.cumsum(steps)])
