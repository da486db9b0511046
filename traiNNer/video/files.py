"""Which frames a video file has: an index, made from its packets without decoding, and remembered.

PyAV is imported when the first video is opened. Whatever is wrong with a file is a `DataError` that
names it.
"""

from __future__ import annotations

import errno
import logging
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from traiNNer.utils.errors import DataError
from traiNNer.utils.scan_cache import cache_path
from traiNNer.video.index import Video, load_index, save_index
from traiNNer.video.orientation import orientation_of
from traiNNer.video.pyav import import_av
from traiNNer.video.tags import colors_of, refusal, remarks
from traiNNer.video.truncation import missing_bytes

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mpg", ".mpeg", ".wmv",
    ".flv",
)  # fmt: skip

# FFmpeg's names of the formats that these suffixes mean. Others, as playlists, could open more
# files, and the network.
_FORMATS = "mov,mp4,m4v,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv"
_AGAIN = "copy or download it again, or delete it"
# FFmpeg's names of the formats whose headers say how long the file is, and which are no part of a
# broadcast.
_WHOLE = ("mov,mp4", "matroska", "avi")
# Headers round, and some are careless: what ends this much too early was cut short, and so was what
# lacks more than a share of its length; frames at which it is only said.
_TOLERANCE_S = 0.5
_TOLERATED_SHARE = 0.1
_TOLERATED_FRAMES = 2
_FALLBACK_FPS = 25
_ENDS_EARLY = "ending a little before the header says: frames may be missing at the end"


def scan_video(path: Path) -> Video:
    """Index a video file: read its packets once, and decode its first frame. A file that was
    indexed is not read again.

    Raises:
        DataError: if it cannot be opened, is damaged or cut short, has no picture, or if PyAV is
            not installed.
    """
    stamp = file_stamp(path)
    cache = cache_path(path)
    video = load_index(cache, path, stamp)
    if video is None:
        with opened(path) as (container, stream):
            video = _index(path, stamp, container, stream)
        save_index(cache, video)
    return video


def file_stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in ns.

    Raises:
        DataError: if it is not there, no plain file, or empty.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    # To read a pipe could last for ever.
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: is no plain file; give a video file, or remove it")
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

    file_stamp(path)
    limits = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    try:
        # Absolute, because FFmpeg takes `name:rest` for a protocol.
        container = av.open(
            str(path.absolute()), "r", metadata_errors="replace", container_options=limits
        )
    except video_errors() as error:
        reason = reason_of(error)
        if getattr(error, "errno", None) == errno.EINVAL:
            reason = "its content is no video format that is read, whatever its name says"
        raise DataError(f"{path}: not a video that can be opened ({reason}); {_AGAIN}") from error
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
    picture_end_s: float = 0.0

    def add(self, packet: Packet[Any]) -> None:
        if packet.is_keyframe:
            self.keys.append(packet.pts)
        if self.keys and not packet.is_discard:
            self.pts.append(packet.pts)
        self.reordered |= packet.pts != packet.dts

    def see_end(self, packet: Packet[Any], *, picture: bool) -> None:
        last = packet.pts if packet.pts is not None else packet.dts
        if last is None or not packet.time_base:
            return
        end_s = float((last + (packet.duration or 0)) * packet.time_base)
        self.end_s = max(self.end_s, end_s)
        if picture:
            self.picture_end_s = max(self.picture_end_s, end_s)

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
    lacking = missing_bytes(path)
    if lacking:
        raise DataError(
            f"{path}: the video is cut short: by its own headers {lacking} bytes are missing; "
            f"{_AGAIN}"
        )
    first = _first_frame(path, container, stream)
    reason = refusal(first, int(stream.codec_context.color_trc))
    if reason is not None:
        raise DataError(f"{path}: {reason}")
    try:
        rotation, mirrored = orientation_of(first)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    width, height = (first.height, first.width) if rotation % 180 else (first.width, first.height)
    said = list(remarks(first, stream))
    packets = _read_packets(path, stream.index)
    if _ends_early(path, container, stream, packets):
        said.append(_ENDS_EARLY)
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
        rotation=rotation,
        mirrored=mirrored,
        matrix=int(first.colorspace),
        colors=colors_of(first),
        pts=np.array(times[0], np.int64),
        keys=np.array(times[1], np.int64),
        timed=timed,
        stamp=stamp,
        remarks=tuple(said),
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
            packets.see_end(packet, picture=packet.stream.index == index)
            if packet.stream.index != index or not packet.size:
                continue
            # In a broadcast it is one of many; the frame will tell when it is decoded.
            if packet.is_corrupt and container.format.name.startswith(_WHOLE):
                raise DataError(
                    f"{path}: the video is damaged or cut short at {packets.end_s:.2f} s; {_AGAIN}"
                )
            packets.add(packet)
    return packets


def _ends_early(
    path: Path, container: InputContainer, stream: VideoStream, packets: _Packets
) -> bool:
    """Whether the file ends some frames before its headers say, though it may be whole.

    Raises:
        DataError: if it ends so early that it was cut short.
    """
    if not container.format.name.startswith(_WHOLE):
        return False
    frames_s = _TOLERATED_FRAMES / float(stream.average_rate or _FALLBACK_FPS)
    # Some files begin before 0, with samples that prime the decoder and are not part of the length.
    start_s = min(0.0, (container.start_time or 0) / 1_000_000)
    expected_s = (container.duration or 0) / 1_000_000 + start_s
    missing_s = expected_s - packets.end_s
    if missing_s > min(_TOLERANCE_S, max(frames_s, _TOLERATED_SHARE * expected_s)):
        raise DataError(
            f"{path}: the video is cut short: its header says {expected_s:.2f} s, and it ends at "
            f"{packets.end_s:.2f} s; {_AGAIN}"
        )
    own_s = _seconds(stream.metadata.get("DURATION", ""))
    return max(missing_s, own_s - packets.picture_end_s) > frames_s


def _seconds(text: str) -> float:
    """The length of a stream as Matroska has it, 00:01:02.345; 0 for what is none."""
    parts = text.split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except ValueError:
        return 0.0
    return 3600 * hours + 60 * minutes + seconds


def _count(path: Path) -> int:
    with opened(path) as (container, stream):
        stream.codec_context.thread_count = 1
        return sum(1 for _ in decode(container.demux(stream), stream, timed=False))
