"""A small video data set made of photographs: a camera that moves over them, and a real encoder for
the LQ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from traiNNer.data import demo
from traiNNer.data.video_colors import Frame
from traiNNer.data.video_writing import FILM_RATE, Compression, Encoding, staging, write_frame
from traiNNer.ops.resize import resize
from traiNNer.utils.errors import DataError, DiskError
from traiNNer.utils.images import image_to_tensor, read_header, read_image

SCALE = 2
FRAMES = 20
SIZE = (256, 192)  # width and height of GT, in pixels
ENCODING = Encoding("h264", crf=20)

# pixels of the photograph between two of GT; above 1, so that GT is sharp wherever its pixels fall
_STEP = 1.25
_SPEEDS = (
    0.7,
    1.1,
    1.6,
    2.3,
    3.2,
)  # GT pixels from frame to frame, none a whole number of LQ pixels
_ZOOMS = (1.0, 1.03, 0.97, 1.06, 0.94)  # of the last frame against the first
_TURN = math.radians(137.5)  # the golden angle: directions of scenes differ however many there are
_LOBES = 3


@dataclass(frozen=True, slots=True)
class _Scene:
    """A photograph, and the path of the camera over it."""

    split: str
    name: str
    photograph: Path
    part: float
    speed: float
    angle: float
    zoom: float


def shrink(gt: Frame, scale: int) -> Frame:
    """(H, W, 3) to (H / scale, W / scale, 3) by antialiased bicubic interpolation, rounded to 8
    bit.
    """
    size = (gt.shape[0] // scale, gt.shape[1] // scale)
    lq = resize(image_to_tensor(gt).float(), size, "bicubic")
    return lq.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def make_demo_video(
    root: Path, *, overwrite: bool = False, tell: Callable[[int, int], None] | None = None
) -> bool:
    """Make `train/gt`, `train/lq_x2`, `val/gt` and `val/lq_x2` below `root`, each with a folder of
    frames a scene.

    GT is a window that moves over a photograph by parts of a pixel and zooms a little. LQ is GT
    shrunk by antialiased bicubic interpolation, then encoded as H.264 and decoded. Everything is
    written beside `root` and moved when it is whole. The same files every time, as far as the
    libraries are the same.

    Args:
        root: the folder of the data set.
        overwrite: replace the files that are there already; else they stay.
        tell: called with the number of finished scenes and of all scenes.

    Returns:
        False when all was there already.

    Raises:
        DataError: if scikit-image, its photographs, PyAV or its encoder are missing.
        DiskError: if writing fails.
    """
    scenes = list(_plan())
    targets = [
        Path(scene.split, kind, scene.name, f"{number:05}.png")
        for scene in scenes
        for kind in ("gt", f"lq_x{SCALE}")
        for number in range(FRAMES)
    ]
    if not overwrite and all((root / target).is_file() for target in targets):
        return False
    with staging(root) as folder:
        made = folder / root.name
        for number, scene in enumerate(scenes):
            _write(scene, made / scene.split)
            if tell is not None:
                tell(number + 1, len(scenes))
        try:
            if not root.exists():
                made.rename(root)
                return True
            for target in targets:
                (root / target).parent.mkdir(parents=True, exist_ok=True)
                if overwrite or not (root / target).exists():
                    (made / target).replace(root / target)
        except OSError as error:
            raise DiskError(
                f"cannot make the demo video in {root.absolute()}: {error.strerror or error}"
            ) from error
    return True


def _plan() -> Iterator[_Scene]:
    """The photographs of the demo data set, in its own split, that are large enough to move
    over.
    """
    folder = demo._photographs()
    number = 0
    for split, sources in (("train", demo._TRAIN), ("val", demo._VAL)):
        found = [
            (source, folder / source.name) for source in sources if (folder / source.name).is_file()
        ]
        usable = [(source, path) for source, path in found if _is_large_enough(path, source.part)]
        if not usable:
            raise DataError(
                f"{folder}: no photograph for the {split} part of the demo video is there; "
                "reinstall scikit-image from its wheel: pip install --force-reinstall scikit-image"
            )
        for source, path in usable:
            speed = _SPEEDS[number % len(_SPEEDS)]
            zoom = _ZOOMS[number // 2 % len(_ZOOMS)]
            yield _Scene(split, path.stem, path, source.part, speed, 0.5 + number * _TURN, zoom)
            number += 1


def _is_large_enough(path: Path, part: float) -> bool:
    """Whether some movement fits in."""
    header = read_header(path)
    margin = 1.15 * _STEP
    return header.width * part >= margin * SIZE[0] and header.height * part >= margin * SIZE[1]


def _write(scene: _Scene, folder: Path) -> None:
    picture = read_image(scene.photograph)
    gt = [_look(picture, *place) for place in _path(scene, picture.shape[1], picture.shape[0])]
    width, height = SIZE
    compression = Compression((width // SCALE, height // SCALE), FILM_RATE, ENCODING)
    lq = (decoded for _, decoded in compression.run(shrink(frame, SCALE) for frame in gt))
    for number, (frame, compressed) in enumerate(zip(gt, lq, strict=True)):
        write_frame(folder / "gt" / scene.name / f"{number:05}.png", frame)
        write_frame(folder / f"lq_x{SCALE}" / scene.name / f"{number:05}.png", compressed)


def _path(scene: _Scene, width: int, height: int) -> Iterator[tuple[float, float, float]]:
    """Centre of the window (x, y) and step, in pixels of the photograph, of every frame.

    A straight line through the middle, shortened where it would leave the photograph, with a small
    sway across it.
    """
    # no scene is exactly level or upright
    dx = math.cos(scene.angle)
    dy = math.sin(scene.angle)
    widest = _STEP * max(1.0, scene.zoom)
    room_x = (width * scene.part - SIZE[0] * widest) / 2
    room_y = (height * scene.part - SIZE[1] * widest) / 2
    half = min(
        scene.speed * _STEP * (FRAMES - 1) / 2, 0.9 * room_x / abs(dx), 0.9 * room_y / abs(dy)
    )
    sway = min(1.5, 0.1 * room_x, 0.1 * room_y)
    for number in range(FRAMES):
        part = number / (FRAMES - 1)
        along = half * (2 * part - 1)
        across = sway * math.sin(2 * math.pi * part)
        x = width / 2 + along * dx - across * dy
        y = height / 2 + along * dy + across * dx
        yield x, y, _STEP * scene.zoom**part


def _look(picture: NDArray[np.generic], x: float, y: float, step: float) -> Frame:
    """The window of SIZE around a place of the photograph, antialiased."""
    columns = _weights(SIZE[0], picture.shape[1], x, step)
    rows = _weights(SIZE[1], picture.shape[0], y, step)
    left, right = _used(columns)
    top, bottom = _used(rows)
    part = picture[top:bottom, left:right].astype(np.float32)
    seen = np.einsum(
        "ij,jkc,lk->ilc", rows[:, top:bottom], part, columns[:, left:right], optimize=True
    )
    return seen.round().clip(0, 255).astype(np.uint8)


def _weights(count: int, length: int, centre: float, step: float) -> NDArray[np.float32]:
    """(count, length): pixel i of the window is row i times the pixels of the photograph.

    The kernel is that of Lanczos with three lobes, as wide as a pixel of the window.
    """
    places = centre + (np.arange(count) - (count - 1) / 2) * step
    distance = (np.arange(length) + 0.5 - places[:, None]) / step
    weights = np.where(np.abs(distance) < _LOBES, np.sinc(distance) * np.sinc(distance / _LOBES), 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _used(weights: NDArray[np.float32]) -> tuple[int, int]:
    """The first and one behind the last column that is not all zero."""
    used = np.flatnonzero(weights.any(axis=0))
    return int(used[0]), int(used[-1]) + 1
