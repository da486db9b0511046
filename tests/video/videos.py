"""Tiny videos and frame folders whose pixels say which frame of which scene they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.data.image_sets import save
from traiNNer.utils.images import Pixels
from traiNNer.video.colors import FrameToRgb


def marked(scene: int, frame: int, height: int = 24, width: int = 32) -> Pixels:
    """(height, width, 3): red is the row, green the column, and blue the scene (times 32) and the
    frame.
    """
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows, columns, np.full_like(rows, 32 * scene + frame)], axis=2).astype(
        np.uint8
    )


def film(frames: int, height: int = 48, width: int = 64, seed: int = 0) -> list[Pixels]:
    """Noisy pictures that drift, so that every codec has something to predict and no two frames are
    alike.
    """
    ground = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return [np.roll(ground // 2 + 5 * k % 128, k, axis=1) for k in range(frames)]


def write_video(  # noqa: PLR0913 - what a file may have, each in a test of its own
    path: Path,
    pictures: Sequence[Pixels],
    codec: str = "libx264",
    *,
    gop: int = 12,
    b_frames: int | None = None,
    pix_fmt: str = "yuv420p",
    times: Sequence[int] | None = None,
    rotation: float = 0,
    fps: int = 25,
    container: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Encode RGB pictures; `times` in units of 1 / fps s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=fps)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.gop_size = gop
        stream.thread_count = 1
        stream.options = options
        if b_frames is not None:
            stream.max_b_frames = b_frames
        if rotation:
            stream.set_display_rotation(rotation)
        for time, picture in zip(times or range(len(pictures)), pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = time
            frame.time_base = Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def write_lossless(path: Path, pictures: Sequence[Pixels], **options: object) -> Path:
    """A video from which exactly these pixels are read."""
    return write_video(path, pictures, "ffv1", pix_fmt="bgr0", **options)  # type: ignore[arg-type]


def decode_all(path: Path) -> Iterator[Pixels]:
    """From the first frame to the last, without seeking."""
    with av.open(str(path)) as container:
        convert = FrameToRgb(container.streams.video[0].codec_context.name)
        for frame in container.decode(video=0):
            yield convert(frame)


# Shares of red and blue in the luma.
SHARES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}


def to_ycbcr(rgb: tuple[int, int, int], matrix: int, full: bool) -> list[int]:
    """8-bit YCbCr by the formulas of the standards; matrix 2 (unspecified) is BT.601."""
    red, green, blue = (value / 255 for value in rgb)
    share_r, share_b = SHARES.get(matrix, SHARES[5])
    luma = share_r * red + (1 - share_r - share_b) * green + share_b * blue
    cb = (blue - luma) / (2 - 2 * share_b)
    cr = (red - luma) / (2 - 2 * share_r)
    values = (
        (255 * luma, 128 + 255 * cb, 128 + 255 * cr)
        if full
        else (16 + 219 * luma, 128 + 224 * cb, 128 + 224 * cr)
    )
    return [min(255, max(0, round(value))) for value in values]


def write_colours(
    path: Path,
    colours: Sequence[tuple[int, int, int]],
    matrix: int,
    full: bool,
    pix_fmt: str = "yuv420p",
) -> Path:
    """One lossless frame of squares of 32 pixels in these colours, and what the file says about
    them.
    """
    frame = av.VideoFrame(32 * len(colours), 32, pix_fmt)
    for channel, plane in enumerate(frame.planes):
        side = 32 * plane.width // frame.width
        row = np.zeros(plane.line_size, np.uint8)
        for place, colour in enumerate(colours):
            row[place * side : (place + 1) * side] = to_ycbcr(colour, matrix, full)[channel]
        plane.update(np.tile(row, plane.height).tobytes())
    frame.colorspace = matrix
    frame.color_range = 2 if full else 1
    frame.pts = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.width = frame.width
        stream.height = frame.height
        stream.pix_fmt = pix_fmt
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full else 1
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def damage(path: Path, packet: int) -> None:
    """Change the middle half of the data of one packet; the file around it stays as it is."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        position = packets[packet].pos
        size = packets[packet].size
    assert position is not None
    content = bytearray(path.read_bytes())
    for place in range(position + size // 4, position + size * 3 // 4):
        content[place] ^= 0x5A
    path.write_bytes(content)


def write_sound(path: Path) -> Path:
    """A file of silence."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 4096), np.float32), format="fltp", layout="mono"
        )
        frame.rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def save_scene(
    folder: Path,
    scene: int,
    frames: Sequence[int],
    scale: int = 1,
    size: tuple[int, int] = (24, 32),
) -> None:
    """Frames named by their number, each pixel of `marked` repeated `scale` x `scale` times."""
    for frame in frames:
        save(
            folder / f"{frame:05d}.png",
            marked(scene, frame, *size).repeat(scale, 0).repeat(scale, 1),
        )
