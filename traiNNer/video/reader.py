"""Frames of video files by number, exactly."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from traiNNer.utils.errors import DataError
from traiNNer.video.colors import FrameToRgb
from traiNNer.video.files import Video, decode, file_stamp, open_video, reason_of, video_errors

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer


class _NotFoundError(Exception):
    """A frame cannot be found. `damaged`: because of what was decoded on the way to it."""

    def __init__(self, reason: str, damaged: bool) -> None:
        super().__init__(reason)
        self.damaged = damaged


# Packets in order, their stream, and whether timestamps tell the frames: see `decode`.
Decode = Callable[["Iterable[Packet[Any]]", "VideoStream", bool], "Iterator[VideoFrame]"]


def _number_frames(frames: Iterator[VideoFrame], timed: bool) -> Iterator[tuple[int, VideoFrame]]:
    """Frames with their timestamps, or with their numbers where timestamps are of no use."""
    for count, frame in enumerate(frames):
        time = frame.pts if timed else count
        if time is not None:
            yield time, frame


class VideoReader:
    """Reads frames of one file by number; the file stays open until `close`.

    A frame is found by its timestamp: decoding begins at the keyframe before it, or goes on from
    where it is. So reading forward decodes every frame once, and frames between are decoded without
    being converted. Where decoding from that keyframe does not lead to the frame, an earlier one is
    tried, at last the beginning of the file.

    For the colours see `FrameToRgb`. Interlaced fields stay woven, and pixels are taken as square.
    The rotation that a phone writes is applied, as a JPEG's is, and so is mirroring.

    Args:
        video: the index of the file.
        keep: how many decoded frames are kept, so that overlapping windows need no second decoding;
            1 at least.
        threads: of the decoder; 0 is as many as there are cores. With 1 a reader that was opened
            before a fork does no harm in the child.
        decode: makes frames of packets.
    """

    def __init__(
        self, video: Video, keep: int = 1, threads: int = 1, decode: Decode = decode
    ) -> None:
        self._decode = decode
        self._video = video
        self._keep = keep
        self._threads = threads
        self._open: tuple[InputContainer, VideoStream] | None = None
        self._frames: Iterator[tuple[int, VideoFrame]] = iter(())
        # Timestamp of the last decoded frame, where decoding can go on from it.
        self._at: int | None = None
        # As decoded: YCbCr of 4:2:0 takes half the memory of RGB.
        self._recent: OrderedDict[int, VideoFrame] = OrderedDict()
        self._convert: FrameToRgb | None = None

    def read(self, number: int) -> NDArray[np.uint8]:
        """Decode a frame, counted from 0: (H, W, 3) RGB, as shown.

        Raises:
            DataError: if it is damaged or missing, or the file was changed since it was indexed.
        """
        time = int(self._video.pts[number])
        frame = self._recent.get(time)
        if frame is None:
            frame = self._find(number, time)
        return self._to_rgb(frame)

    def close(self) -> None:
        """Close the file and forget the kept frames. A further `read` opens it again."""
        self._frames = iter(())
        self._at = None
        self._recent.clear()
        if self._open is not None:
            self._open[0].close()
            self._open = None

    def _find(self, number: int, time: int) -> VideoFrame:
        keys = self._video.keys
        key = int(np.searchsorted(keys, time, "right")) - 1
        if self._at is not None and self._at < time and keys[key] <= self._follower(self._at):
            try:
                return self._forward(time)
            except _NotFoundError:
                pass  # a second try decides whether the file is to blame
        reason = ""
        # Usually the keyframe before the frame. One earlier where open groups of pictures or a
        # broken index are in the way; at last the beginning of the file.
        for steps_back in (0, 1, 4, len(keys)):
            self._go_to(max(0, key - steps_back))
            try:
                return self._forward(time)
            except _NotFoundError as error:
                # Its words alone: the error itself would keep this frame of the stack, and with it
                # the open file.
                reason = str(error)
                damaged = error.damaged
            # The whole way from the beginning may be long; what is damaged from two keyframes is
            # damaged.
            if key - steps_back <= 0 or (damaged and steps_back):
                break
        self.close()
        raise DataError(
            f"{self._video.path}: frame {number} of {len(self._video)} cannot be decoded "
            f"({reason}); copy or download the video again, or encode it anew"
        )

    def _follower(self, time: int) -> int:
        """The timestamp of the frame behind the one at `time`."""
        place = int(np.searchsorted(self._video.pts, time, "right"))
        return int(self._video.pts[min(place, len(self._video) - 1)])

    def _go_to(self, key: int) -> None:
        """Begin to decode at a keyframe. The first one is the beginning of the file, which is
        opened anew for it.
        """
        if key == 0 or self._open is None:
            self.close()
            self._start()
        assert self._open is not None
        container, stream = self._open
        self._frames = iter(())
        self._at = None
        if key:
            try:
                container.seek(int(self._video.keys[key]), stream=stream, backward=True)
            except video_errors():
                return  # nothing is found from here, so an earlier one is tried
        # No generator of this object's own methods: it would keep the reader, and its open file,
        # alive.
        timed = self._video.timed
        self._frames = _number_frames(self._decode(container.demux(stream), stream, timed), timed)

    def _start(self) -> None:
        path = self._video.path
        if file_stamp(path) != self._video.stamp:
            raise DataError(f"{path}: was changed since it was checked; start again")
        self._open = open_video(path)
        context = self._open[1].codec_context
        self._convert = FrameToRgb(context.name, self._video.colors.matrix)
        context.thread_count = self._threads
        if self._threads != 1:
            # The setter takes names, and pyright knows the getter only.
            context.thread_type = "AUTO"  # pyright: ignore[reportAttributeAccessIssue]

    def _forward(self, time: int) -> VideoFrame:
        """Decode up to the frame at `time`.

        Raises:
            _NotFoundError: if it is not among them.
        """
        try:
            for at, frame in self._frames:
                self._at = at
                if frame.is_corrupt:
                    self._at = None  # what follows is made from it: not to go on from here
                    raise _NotFoundError("its data are damaged", damaged=True)
                self._remember(at, frame)
                if at == time:
                    return frame
                if at > time:
                    raise _NotFoundError("it is missing", damaged=False)
        except video_errors() as error:
            # The decoder has lost what the following frames refer to.
            self._at = None
            raise _NotFoundError(reason_of(error), damaged=True) from error
        self._at = None
        raise _NotFoundError("the video ends before it", damaged=False)

    def _remember(self, time: int, frame: VideoFrame) -> None:
        self._recent[time] = frame
        self._recent.move_to_end(time)
        while len(self._recent) > self._keep:
            self._recent.popitem(last=False)

    def _to_rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        assert self._convert is not None
        try:
            rgb = self._convert(frame)
        except DataError as error:
            raise DataError(f"{self._video.path}: {error}") from error
        rgb = rgb[::-1] if self._video.mirrored else rgb
        rgb = np.ascontiguousarray(np.rot90(rgb, self._video.rotation // 90))
        if rgb.shape[:2] != (self._video.height, self._video.width):
            raise DataError(
                f"{self._video.path}: a frame is {rgb.shape[1]}x{rgb.shape[0]} and the first one "
                f"is {self._video.width}x{self._video.height}; the size may not change within a "
                "video"
            )
        return rgb
