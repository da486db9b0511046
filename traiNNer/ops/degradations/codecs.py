"""What films lose: real encoders and decoders, by way of PyAV."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np

from traiNNer.ops.degradations.base import (
    Draws,
    Frames,
    Share,
    WholeInterval,
    Within,
    from_levels,
    to_levels,
)
from traiNNer.ops.degradations.compression import on_shifted_grid
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import DEGRADATIONS

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext

# SVT-AV1 takes no pictures below 64 pixels; of those of 64, x265 4.1 makes now this and now that.
_SMALLEST_SIDE = 96
_FRAMES_PER_SECOND = 25


def require_encoder(name: str) -> None:
    """Refuse an encoder that is not there.

    Raises:
        OptionsError: if PyAV is missing or was built without it.
    """
    try:
        import av
    except ImportError as error:
        raise OptionsError(
            "degradations by codecs of films need PyAV: pip install 'av>=18'"
        ) from error
    try:
        av.Codec(name, "w")
    except ValueError as error:
        raise OptionsError(f"this PyAV has no encoder {name}; choose another codec") from error


def open_encoder(encoder: VideoCodecContext) -> None:
    """Open an encoder, and leave the process's threads scheduled as they were.

    Where it may, as root in a container, SVT-AV1 makes the thread that opens it one of real time
    (`SCHED_FIFO`, 99), for good, and its own threads with it. Whatever that thread starts inherits
    this, and two such threads that wait busily for a third hold two cores until they are killed.
    """
    if sys.platform != "linux":
        encoder.open()
        return
    policy = os.sched_getscheduler(0)
    parameters = os.sched_getparam(0)
    threads = Path("/proc/self/task")
    before = {thread.name for thread in threads.iterdir()}
    try:
        encoder.open()
    finally:
        # Other encoders change nothing, and some sandboxes allow no call that would.
        if os.sched_getscheduler(0) != policy:
            added = {thread.name for thread in threads.iterdir()} - before
            for thread in ("0", *added):
                with suppress(ProcessLookupError):
                    os.sched_setscheduler(int(thread), policy, parameters)


def through_codec(
    frames: Frames, encoder_name: str, decoder_name: str, options: Mapping[str, str]
) -> Frames:
    """Frames (T, H, W, 3) encoded as one film with halved colours, and decoded; a picture is a film
    of one frame. The same bits every time: a codec has one thread.
    """
    import av
    from av.video.codeccontext import VideoCodecContext

    count, height, width = frames.shape[:3]
    # Colours are halved, so sides are even.
    down = max(_SMALLEST_SIDE, height + height % 2) - height
    right = max(_SMALLEST_SIDE, width + width % 2) - width
    padded = np.pad(frames, ((0, 0), (0, down), (0, right), (0, 0)), mode="edge")
    encoder = cast("VideoCodecContext", VideoCodecContext.create(encoder_name, "w"))
    encoder.height, encoder.width = padded.shape[1:3]
    encoder.pix_fmt = "yuv420p"
    encoder.framerate = Fraction(_FRAMES_PER_SECOND)
    encoder.time_base = 1 / encoder.framerate
    encoder.thread_count = 1
    encoder.options = dict(options)
    open_encoder(encoder)
    packets: list[Packet] = []
    for number, frame in enumerate(padded):
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(to_levels(frame)), "rgb24")
        picture = picture.reformat(format="yuv420p")
        picture.pts = number
        picture.time_base = encoder.time_base
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    decoder = cast("VideoCodecContext", VideoCodecContext.create(decoder_name, "r"))
    decoder.thread_count = 1
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    decoded = [frame for packet in packets for frame in decoder.decode(packet)]
    decoded += decoder.decode(None)
    if len(decoded) != count:
        raise RuntimeError(f"{encoder_name} made {len(decoded)} frames of {count}")
    levels = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded]).astype(np.uint8)
    return from_levels(levels[:, :height, :width])


class _Codec:
    """What all codecs have in common: how coarse, and where their squares begin."""

    encoder: str
    decoder: str
    # What its coarseness is called.
    measure = "crf"

    def __init__(self, coarseness: WholeInterval, shifted: float) -> None:
        require_encoder(self.encoder)
        self.coarseness: WholeInterval = coarseness
        self.shifted = shifted

    def options(self, coarseness: int) -> dict[str, str]:
        """The encoder's options."""
        raise NotImplementedError

    def __call__(self, frames: Frames, draws: Draws) -> Frames:
        options = self.options(draws.whole(self.measure, self.coarseness))
        return on_shifted_grid(
            frames,
            draws,
            self.shifted,
            lambda padded: through_codec(padded, self.encoder, self.decoder, options),
        )


Preset = Literal["ultrafast", "veryfast", "fast", "medium", "slow"]


@DEGRADATIONS.register("h264", aliases=("x264", "avc"))
class H264(_Codec):
    """Compression as H.264, by x264; a clip is one group of pictures.

    Args:
        crf: 0 to 51, how coarse.
        preset: of x264; what is faster looks worse.
        shifted: share of the samples whose squares do not begin at the picture's corner.
    """

    encoder = "libx264"
    decoder = "h264"

    def __init__(
        self,
        crf: Annotated[WholeInterval, Within(0, 51)] = (18, 35),
        preset: Preset = "veryfast",
        shifted: Share = 0.0,
    ) -> None:
        super().__init__(crf, shifted)
        self.preset = preset

    def options(self, coarseness: int) -> dict[str, str]:
        """The encoder's options."""
        return {"crf": str(coarseness), "preset": self.preset}


@DEGRADATIONS.register("h265", aliases=("x265", "hevc"))
class H265(_Codec):
    """Compression as H.265, by x265; a clip is one group of pictures.

    Args:
        crf: 0 to 51, how coarse.
        preset: of x265; what is faster looks worse.
        shifted: share of the samples whose squares do not begin at the picture's corner.
    """

    encoder = "libx265"
    decoder = "hevc"

    def __init__(
        self,
        crf: Annotated[WholeInterval, Within(0, 51)] = (20, 38),
        preset: Preset = "veryfast",
        shifted: Share = 0.0,
    ) -> None:
        super().__init__(crf, shifted)
        self.preset = preset

    def options(self, coarseness: int) -> dict[str, str]:
        """The encoder's options."""
        quiet = "log-level=none:pools=none:frame-threads=1"
        return {"crf": str(coarseness), "preset": self.preset, "x265-params": quiet}


@DEGRADATIONS.register("av1")
class Av1(_Codec):
    """Compression as AV1, by SVT-AV1; a clip is one group of pictures.

    Args:
        crf: 1 to 63, how coarse.
        preset: 0 to 13, of SVT-AV1; what is faster looks worse.
        shifted: share of the samples whose squares do not begin at the picture's corner.
    """

    encoder = "libsvtav1"
    decoder = "libdav1d"

    def __init__(
        self,
        crf: Annotated[WholeInterval, Within(1, 63)] = (25, 55),
        preset: Annotated[int, Within(0, 13)] = 10,
        shifted: Share = 0.0,
    ) -> None:
        super().__init__(crf, shifted)
        self.preset = preset

    def options(self, coarseness: int) -> dict[str, str]:
        """The encoder's options."""
        # It writes to the terminal itself, from its level 2 on.
        os.environ.setdefault("SVT_LOG", "1")
        return {"crf": str(coarseness), "preset": str(self.preset), "svtav1-params": "lp=1"}


@DEGRADATIONS.register("vp9")
class Vp9(_Codec):
    """Compression as VP9, by libvpx; a clip is one group of pictures.

    Args:
        crf: 0 to 63, how coarse.
        shifted: share of the samples whose squares do not begin at the picture's corner.
    """

    encoder = "libvpx-vp9"
    decoder = "vp9"

    def __init__(
        self, crf: Annotated[WholeInterval, Within(0, 63)] = (25, 50), shifted: Share = 0.0
    ) -> None:
        super().__init__(crf, shifted)

    def options(self, coarseness: int) -> dict[str, str]:
        """The encoder's options."""
        # Without a bit rate of 0 it would keep to a rate, and not to the quality.
        return {"crf": str(coarseness), "b": "0", "deadline": "realtime", "cpu-used": "6"}


class _OldCodec(_Codec):
    """The codecs of discs: one quantiser for all squares."""

    measure = "quantizer"

    def options(self, coarseness: int) -> dict[str, str]:
        """The encoder's options."""
        # With qscale there is no bit rate to keep to, and the bounds leave one quantiser.
        return {"flags": "+qscale", "qmin": str(coarseness), "qmax": str(coarseness)}


@DEGRADATIONS.register("mpeg2", aliases=("dvd",))
class Mpeg2(_OldCodec):
    """Compression as MPEG-2, as on DVDs; a clip is one group of pictures.

    Args:
        quantizer: 1 to 31, how coarse.
        shifted: share of the samples whose squares do not begin at the picture's corner.
    """

    encoder = "mpeg2video"
    decoder = "mpeg2video"

    def __init__(
        self, quantizer: Annotated[WholeInterval, Within(1, 31)] = (2, 12), shifted: Share = 0.0
    ) -> None:
        super().__init__(quantizer, shifted)


@DEGRADATIONS.register("mpeg4", aliases=("xvid", "divx"))
class Mpeg4(_OldCodec):
    """Compression as MPEG-4 part 2, as of Xvid and DivX; a clip is one group of pictures.

    Args:
        quantizer: 1 to 31, how coarse.
        shifted: share of the samples whose squares do not begin at the picture's corner.
    """

    encoder = "mpeg4"
    decoder = "mpeg4"

    def __init__(
        self, quantizer: Annotated[WholeInterval, Within(1, 31)] = (2, 12), shifted: Share = 0.0
    ) -> None:
        super().__init__(quantizer, shifted)
