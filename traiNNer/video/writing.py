"""Encoding: frames into a video file, and frames through an encoder and back, which is what a
stream does to them.

8-bit RGB becomes Y'CbCr, of BT.709 unless something else is asked for, and is tagged so.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from traiNNer.utils.arithmetic import round_up
from traiNNer.utils.errors import DataError, DiskError, OptionsError
from traiNNer.utils.images import SRGB, Colors, add_colors
from traiNNer.utils.names import temporary_prefix
from traiNNer.video.colors import HD, Frame, FrameToRgb, color_range, rgb_to_frame
from traiNNer.video.pyav import import_av
from traiNNer.video.tags import VideoColors

if TYPE_CHECKING:
    from av import Packet, VideoCodecContext, VideoFrame

FILM_RATE = Fraction(24000, 1001)
# What `Encoding.codec` may be, and FFmpeg's name of the encoder; names of decoders are in
# `_DECODERS`.
CODECS = {"h264": "libx264", "h265": "libx265"}
PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
    "placebo",
)  # fmt: skip
CONTAINERS = (".mp4", ".mkv", ".mov")

_DECODERS = {"h264": "h264", "h265": "hevc"}
# What the sides must be multiples of: 4:2:0 has one colour for two columns and two rows.
_PIXEL_FORMATS = {"yuv420p": 2, "yuv444p": 1}
_MAX_CRF = 51
_LOSSLESS_WEBP = 101  # any quality above 100
# A stream's decoder has a buffer: peaks are limited, as in what services send.
_PEAK = 1.5
_BUFFER_S = 2.0
# Below a kilobit a second somebody has forgotten the unit.
_LEAST_BITRATE = 1000
# x264's AVX-512 code reads memory that nobody wrote where the width is no multiple of 128: what it
# makes is valid, but another thing each time. Without it x264 is as fast here.
_UP_TO_AVX2 = "SSE2,SSSE3,SSE42,AVX,FMA3,BMI1,BMI2,AVX2"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to encode. Exactly one of `crf` and `bitrate` is given.

    Args:
        codec: "h264" or "h265".
        crf: constant quality, 0 (lossless) to 51; the same number means different qualities for the
            two codecs.
        bitrate: the mean, in bits per second.
        gop: at most this many frames from one key frame to the next.
        preset: from "ultrafast" to "placebo"; slower ones make smaller files.
        pixel_format: "yuv420p", which every player takes, or "yuv444p", with all of the colour.
        colors: matrix, range and what else is said of the colours.
        threads: of the encoder, 0 for all cores. The result may depend on it.

    Raises:
        OptionsError: naming the value that is not allowed.
    """

    codec: str = "h264"
    crf: float | None = None
    bitrate: int | None = None
    gop: int = 48
    preset: str = "medium"
    pixel_format: str = "yuv420p"
    colors: VideoColors = HD
    threads: int = 1

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise OptionsError(f"codec '{self.codec}' is unknown; there are {', '.join(CODECS)}")
        if (self.crf is None) == (self.bitrate is None):
            raise OptionsError(f"codec {self.codec}: give either crf or bitrate")
        if self.crf is not None and not 0 <= self.crf <= _MAX_CRF:
            raise OptionsError(f"crf {self.crf:g} is outside of 0 (lossless) to {_MAX_CRF} (worst)")
        if self.bitrate is not None and self.bitrate < _LEAST_BITRATE:
            raise OptionsError(
                f"a bitrate of {self.bitrate} bits per second is too low; 800k is 800000"
            )
        if self.gop < 1 or self.threads < 0:
            raise OptionsError(
                f"gop must be at least 1 and threads at least 0, got {self.gop} and {self.threads}"
            )
        if self.preset not in PRESETS:
            raise OptionsError(f"preset '{self.preset}' is unknown; there are {', '.join(PRESETS)}")
        if self.pixel_format not in _PIXEL_FORMATS:
            raise OptionsError(
                f"pixel format '{self.pixel_format}' is unknown; there are "
                f"{', '.join(_PIXEL_FORMATS)}"
            )

    @property
    def rate(self) -> str:
        """For example crf23 or 800k."""
        return f"crf{self.crf:g}" if self.bitrate is None else f"{self.bitrate / 1000:g}k"

    def options(self) -> dict[str, str]:
        """The settings of the encoder that it has no fields for."""
        options = {"preset": self.preset}
        if self.bitrate is None:
            options["crf"] = f"{self.crf:g}"
        else:
            options["maxrate"] = str(round(self.bitrate * _PEAK))
            options["bufsize"] = str(round(self.bitrate * _BUFFER_S))
        if self.codec == "h265":
            # libx265 has a pool of threads of its own, beside the number that FFmpeg hands it.
            workers = {0: "", 1: ":pools=none:frame-threads=1"}.get(
                self.threads, f":pools={self.threads}"
            )
            options["x265-params"] = f"log-level=none{workers}"
        elif torch.backends.cpu.get_cpu_capability() == "AVX512":
            options["x264-params"] = f"asm={_UP_TO_AVX2}"
        return options


def require_encoder(codec: str) -> None:
    """Check that PyAV can encode.

    Raises:
        DataError: if it cannot; names the codecs that it can encode.
    """
    if not _has_encoder(codec):
        others = [f"{name} ({encoder})" for name, encoder in CODECS.items() if _has_encoder(name)]
        instead = 'pip install --force-reinstall "av>=18" brings one that has it'
        if others:
            instead = f"it has {', '.join(others)}"
        raise DataError(
            f"this build of PyAV has no encoder {CODECS[codec]}, which {codec} needs; {instead}"
        )


def _has_encoder(codec: str) -> bool:
    try:
        import_av().Codec(CODECS[codec], "w")
    except ValueError:  # PyAV's UnknownCodecError is one
        return False
    return True


class VideoWriter:
    """A video file, whole or not at all: it gets its name when the context ends without an error.

    Args:
        path: ends in .mp4, .mkv or .mov; missing folders are made; a file of this name is replaced.
        size: width and height of all frames, in pixels.
        fps: frames per second, the mean where it varies.
        encoding: codec, quality and pixel format.
        pad: repeat the last column or row where the pixel format needs even sides, instead of
            raising.
        time_base: the unit, in seconds, of the times that `write` gets; None if it gets none.

    Raises:
        OptionsError: for another suffix.
        DataError: if the sides are odd (without `pad`), the encoder is missing or refuses the size.
        DiskError: if writing fails.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        fps: Fraction,
        encoding: Encoding,
        *,
        pad: bool = False,
        time_base: Fraction | None = None,
    ) -> None:
        if path.suffix.lower() not in CONTAINERS:
            raise OptionsError(
                f"{path}: cannot tell the container; let the name end in {' or '.join(CONTAINERS)}"
            )
        self.path = path
        self.frames = 0
        # The width of a pixel in its heights. Not 1 for a copy of a DVD.
        self.pixel_aspect = Fraction(1)
        self._encoding = encoding
        self._frame_size = size
        self._time_base = time_base or 1 / fps
        step = _PIXEL_FORMATS[encoding.pixel_format]
        self._fps = fps
        self._size = (round_up(size[0], step), round_up(size[1], step)) if pad else size
        _require_size(str(path), self._size, encoding)
        require_encoder(encoding.codec)
        # Beside its place, so that renaming copies nothing; hidden, so that no scan finds it; with
        # the suffix, by which FFmpeg knows the container.
        hidden = f"{temporary_prefix(path.stem)}.{os.getpid()}.tmp{path.suffix}"
        self._temporary = path.with_name(hidden)

    def __enter__(self) -> VideoWriter:
        matroska = self.path.suffix.lower() == ".mkv"
        # The index in front, so that a player can start before the whole file is there.
        settings = {} if matroska else {"movflags": "+faststart"}
        self.frames = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = import_av().open(
                str(self._temporary), "w", container_options=settings
            )
        except OSError as error:
            raise DiskError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._stream = self._container.add_stream(CODECS[self._encoding.codec], rate=self._fps)
        context = self._stream.codec_context
        if self._encoding.codec == "h265" and not matroska:
            context.codec_tag = "hvc1"  # Apple's players take no other
        context.sample_aspect_ratio = self.pixel_aspect
        try:
            _open(context, self._size, self._fps, self._encoding, self._time_base)
        except DataError:
            self._discard()
            raise
        return self

    def write(self, rgb: Frame, time: int | None = None) -> None:
        """Add a frame.

        Args:
            rgb: (H, W, 3), uint8.
            time: when it is shown, in units of `time_base` and later than the one before; None for
                the next moment at a steady `fps`.

        Raises:
            ValueError: if its size or type is not that of the video.
            DiskError: if writing fails.
        """
        width, height = self._frame_size
        if rgb.shape != (height, width, 3) or rgb.dtype != np.uint8:
            raise ValueError(
                f"expected uint8 of ({height}, {width}, 3), got {rgb.dtype} of {rgb.shape}"
            )
        if self._size != self._frame_size:
            padding = ((0, self._size[1] - height), (0, self._size[0] - width), (0, 0))
            rgb = np.pad(rgb, padding, mode="edge")
        frame = rgb_to_frame(rgb, self._encoding.pixel_format, self._encoding.colors)
        frame.pts = self.frames if time is None else time
        frame.time_base = 1 / self._fps if time is None else self._time_base
        self._mux(frame)
        self.frames += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            if not self.frames:
                raise DataError(
                    f"{self.path}: not a single frame was given, so there is no video to write"
                )
            self._mux(None)
            self._container.close()
            # Renamed before its data are on the disk, it could be empty after a crash.
            with open(self._temporary, "rb") as file:
                os.fsync(file.fileno())
            self._temporary.replace(self.path)
        except OSError as failure:
            raise DiskError(f"cannot write {self.path}: {failure.strerror or failure}") from failure
        finally:
            self._discard()

    def _mux(self, frame: VideoFrame | None) -> list[Packet]:
        """Encode a frame, None for what the encoder holds, and write what it gives, which is
        returned.
        """
        try:
            packets = self._stream.encode(frame)
            self._container.mux(packets)
        except OSError as error:
            raise DiskError(f"cannot write {self.path}: {error.strerror or error}") from error
        return packets

    def _discard(self) -> None:
        # Deleted first: closing writes an index, for which a whole film may be moved in vain.
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError, ValueError):
            self._container.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)


class Compression:
    """Frames through a real encoder and its decoder, without a file.

    Args:
        size: width and height in pixels; even for yuv420p.
        fps: frames per second; matters for a bitrate.
        encoding: codec, quality and pixel format.

    Raises:
        DataError: if the sides are odd or the encoder is missing.
    """

    def __init__(self, size: tuple[int, int], fps: Fraction, encoding: Encoding) -> None:
        _require_size("compression", size, encoding)
        require_encoder(encoding.codec)
        self._size = size
        self._fps = fps
        self._encoding = encoding
        self.bits = 0
        """Size of the frames so far, without a container."""

    def run(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Frame]]:
        """(frame as given, frame as decoded), in order; as many as were given.

        At most as many frames wait as the encoder looks ahead (some fifty).

        Raises:
            DataError: if the encoder refuses the size, or the decoder returns another number of
                frames.
        """
        av = import_av()
        encoder = av.CodecContext.create(CODECS[self._encoding.codec], "w")
        _open(encoder, self._size, self._fps, self._encoding)
        name = _DECODERS[self._encoding.codec]
        decoder = av.CodecContext.create(name, "r")
        convert = FrameToRgb(name)
        # The caller has a thread for each scene; threads of its own would also delay frames.
        decoder.thread_count = 1
        # The encoder looks ahead, so frames return late: these have gone in and not yet come back.
        waiting: deque[Frame] = deque()
        for number, rgb in enumerate(frames):
            waiting.append(rgb)
            frame = rgb_to_frame(rgb, self._encoding.pixel_format, self._encoding.colors)
            frame.pts = number
            frame.time_base = 1 / self._fps
            yield from self._decode(encoder.encode(frame), decoder, convert, waiting)
        yield from self._decode([*encoder.encode(None), None], decoder, convert, waiting)
        if waiting:
            raise DataError(f"the {self._encoding.codec} decoder kept {len(waiting)} frames back")

    def _decode(
        self,
        packets: Iterable,
        decoder: VideoCodecContext,
        convert: FrameToRgb,
        waiting: deque[Frame],
    ) -> Iterator[tuple[Frame, Frame]]:
        for packet in packets:  # None at the end: what the decoder still holds
            self.bits += packet.size * 8 if packet is not None else 0
            for decoded in decoder.decode(packet):
                if not waiting:
                    raise DataError(
                        f"the {self._encoding.codec} decoder returned more frames than were given"
                    )
                yield waiting.popleft(), convert(decoded)


def _require_size(what: str, size: tuple[int, int], encoding: Encoding) -> None:
    step = _PIXEL_FORMATS[encoding.pixel_format]
    if min(size) < 1 or any(side % step for side in size):
        raise DataError(
            f"{what}: {encoding.pixel_format} needs even sides, but frames are "
            f"{size[0]}x{size[1]}; pad or crop them, or take yuv444p"
        )


def _open(
    context: VideoCodecContext,
    size: tuple[int, int],
    fps: Fraction,
    encoding: Encoding,
    unit: Fraction | None = None,
) -> None:
    context.width, context.height = size
    context.pix_fmt = encoding.pixel_format
    context.framerate = fps
    context.time_base = unit or 1 / fps
    context.gop_size = encoding.gop
    context.thread_count = encoding.threads
    if encoding.bitrate is not None:
        context.bit_rate = encoding.bitrate
    # Without tags a player guesses, by the size of the picture.
    colors = encoding.colors
    context.colorspace = colors.matrix
    context.color_primaries = colors.primaries
    context.color_trc = colors.transfer
    context.color_range = color_range(colors.full_range)
    context.options = encoding.options()
    try:
        context.open()
    except import_av().FFmpegError as error:
        raise DataError(
            f"{CODECS[encoding.codec]} refuses frames of {size[0]}x{size[1]} at {encoding.rate}: "
            f"{error.strerror or error}; frames of 64x64 and more are safe"
        ) from error


def write_frame(path: Path, rgb: Frame, colors: Colors = SRGB) -> None:
    """Write a PNG or lossless WebP, fast and not atomically: for folders that get their name when
    they are whole.

    Raises:
        DiskError: if writing fails.
    """
    # OpenCV's own setting for PNG is the fast one: half the time of zlib's lowest level, files of
    # about the same size.
    settings = [] if path.suffix == ".png" else [cv2.IMWRITE_WEBP_QUALITY, _LOSSLESS_WEBP]
    _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), settings)
    data = encoded.tobytes()
    if path.suffix == ".png":
        data = add_colors(data, colors)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """An empty hidden folder beside `target`, gone afterwards: what is whole is moved out of it
    before.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(
            prefix=f"{temporary_prefix(target.name)}-",
            dir=target.parent,
            ignore_cleanup_errors=True,
        )
    except OSError as error:
        raise DiskError(
            f"cannot write beside {target.absolute()}: {error.strerror or error}"
        ) from error
    with folder as name:
        yield Path(name)
