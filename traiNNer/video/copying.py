"""Copying into a new video file what is not its picture: timing, sound, subtitles, chapters."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from traiNNer.utils.errors import DataError, DiskError
from traiNNer.video.files import Video, open_video, reason_of, video_errors
from traiNNer.video.pyav import import_av
from traiNNer.video.writing import Encoding, VideoWriter

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import Container, OutputContainer
    from av.stream import Stream

log = logging.getLogger(__name__)

_MATROSKA = (".mkv", ".webm")
# FFmpeg's names of formats whose clock begins anywhere begin so (mpegts, mpeg).
_BROADCAST = "mpeg"
# For a file that does not tell: the rate of European television.
_FALLBACK_RATE = Fraction(25)


class VideoSource:
    """What a new file takes over from a video: its timing, and unchanged its sound, subtitles and
    chapters.

    Args:
        video: the index of the file, which is opened.

    Raises:
        DataError: if it cannot be opened.
    """

    def __init__(self, video: Video) -> None:
        self.video = video
        self._container, self._picture = open_video(video.path)
        # The new file begins at 0. Elsewhere a late start means something: sound before picture.
        self._origin = Fraction(0)
        if self._container.format.name.startswith(_BROADCAST):
            self._origin = Fraction(self._container.start_time or 0, 1_000_000)
        self._copies: dict[int, Stream] = {}
        # By stream: the time of the last packet, and of its end.
        self._times: dict[int, tuple[int, int]] = {}
        self._packets: Iterator[Packet] = iter(())
        self._next: Packet | None = None

    @property
    def time_base(self) -> Fraction | None:
        """The unit of `time`, in seconds; None where the file has no usable times: its frames are
        equally spaced then.
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
        log.warning(
            "%s: .mp4 does not take its sound (%s), so the result is a .mkv",
            self.video.path, ", ".join(refused),
        )  # fmt: skip
        return ".mkv"

    def join(self, target: OutputContainer) -> None:
        """Add the streams to a new file that has its picture already, and write its header. Streams
        that it cannot hold are left out.
        """
        from av.stream import Discard

        streams = (*self._container.streams.audio, *self._container.streams.subtitles)
        for stream in streams:
            try:
                copy = target.add_stream_from_template(stream)
            except ValueError:
                log.warning(
                    "%s: its %s %s cannot be copied and is left out",
                    self.video.path, stream.type, stream.name or "",
                )  # fmt: skip
                continue
            copy.metadata.update(_texts(stream))
            copy.disposition = stream.disposition
            self._copies[stream.index] = copy
        target.metadata.update(_texts(self._container))
        target.set_chapters(self._container.chapters())
        target.start_encoding()
        copied = [stream for stream in streams if stream.index in self._copies]
        # What is not copied, the picture above all, is not even read: it is most of the file, and
        # a reader of its own decodes it.
        for stream in self._container.streams:
            if stream not in copied:
                stream.discard = Discard.all
        self._packets = self._container.demux(*copied) if copied else iter(())
        self._next = self._read()

    def copy(self, target: OutputContainer, until: Fraction | None) -> None:
        """Copy what begins at `until` (seconds) or before; None: all that is left."""
        while self._next is not None:
            packet = self._next
            begin = None if packet.dts is None else packet.dts * packet.time_base
            if until is not None and begin is not None and begin > until:
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
        """Complete the times of a packet. False if it is not later than the one before it, which no
        container takes.
        """
        last, following = self._times.get(packet.stream_index, (None, 0))
        if packet.dts is None:
            packet.dts = following if packet.pts is None else packet.pts
        if packet.pts is None:
            packet.pts = packet.dts
        # Two subtitles may begin together; of sound, what overlaps is a repetition.
        if last is not None and packet.dts < last + (packet.stream.type != "subtitle"):
            return False
        self._times[packet.stream_index] = packet.dts, packet.dts + (packet.duration or 0)
        shift = round(self._origin / packet.time_base)
        packet.dts = packet.dts - shift
        packet.pts = packet.pts - shift
        return True


class CopyingWriter(VideoWriter):
    """A video file with the sound of another one."""

    def __init__(
        self, source: VideoSource, path: Path, size: tuple[int, int], encoding: Encoding
    ) -> None:
        super().__init__(path, size, source.fps, encoding, time_base=source.time_base)
        self._source = source
        self.pixel_aspect = source.pixel_aspect

    def __enter__(self) -> CopyingWriter:
        super().__enter__()
        try:
            with self._explained():
                self._source.join(self._container)
        except BaseException:  # Ctrl-C too: an unfinished file may not stay
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
    # The other metadata describe the old encoder and container, not those of the new file.
    return {key: part.metadata[key] for key in ("title", "language") if key in part.metadata}


def _mp4_takes(stream: Stream) -> bool:
    """Whether packets of a stream can be copied into .mp4."""
    # FFmpeg has no list of what a container takes; it says so when a stream is added.
    with import_av().open(io.BytesIO(), "w", format="mp4") as probe:
        try:
            probe.add_stream_from_template(stream)
        except ValueError:
            return False
    return True
