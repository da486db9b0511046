"""A small video data set made of photographs: a camera that moves over them, and a real encoder for
the LQ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from traiNNer.demo.photographs import SCALE, TRAIN, VAL, find_photographs, shrink
from traiNNer.demo.placing import is_complete, place_files
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import read_header, read_image
from traiNNer.video.colors import Frame
from traiNNer.video.writing import FILM_RATE, Compression, Encoding, staging, write_frame

# Long enough for clips of the usual lengths, short enough to be made while somebody waits.
FRAMES = 20
# Width and height of GT, in pixels: small enough for a photograph of 400 pixels to move under.
SIZE = (256, 192)
# Good quality, as of a paid stream: artefacts are there, but do not hide what is learned.
ENCODING = Encoding("h264", crf=20)

# Pixels of the photograph between two of GT; above 1, so that GT is sharp wherever its pixels fall.
_STEP = 1.25
# GT pixels from frame to frame, none a whole number of LQ pixels: neighbours show new things.
_SPEEDS = (0.7, 1.1, 1.6, 2.3, 3.2)
# Size of a thing in the first frame against that in the last one.
_ZOOMS = (1.0, 1.03, 0.97, 1.06, 0.94)
# The golden angle: directions of scenes differ however many there are.
_TURN = math.radians(137.5)
# Of Lanczos' kernel: the usual number, sharp with little ringing.
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


def make_demo_video(
    root: Path,
    *,
    overwrite: bool = False,
    tell: Callable[[int, int], None] | None = None,
    photographs: Path | None = None,
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
        photographs: their folder; None for that of scikit-image.

    Returns:
        False when all was there already.

    Raises:
        DataError: if scikit-image, its photographs, PyAV or its encoder are missing.
        DiskError: if writing fails.
    """
    scenes = list(_plan(photographs or find_photographs()))
    targets = [
        Path(scene.split, kind, scene.name, f"{number:05}.png")
        for scene in scenes
        for kind in ("gt", f"lq_x{SCALE}")
        for number in range(FRAMES)
    ]
    if not overwrite and is_complete(root, targets):
        return False
    with staging(root) as folder:
        staged = folder / root.name
        for number, scene in enumerate(scenes):
            _write(scene, staged / scene.split)
            if tell is not None:
                tell(number + 1, len(scenes))
        place_files(staged, root, targets, overwrite=overwrite)
    return True


def _plan(folder: Path) -> Iterator[_Scene]:
    """The photographs of the demo data set, in its own split, that are large enough to move
    over.
    """
    number = 0
    for split, photographs in (("train", TRAIN), ("val", VAL)):
        # A version of scikit-image may ship fewer files.
        present = [photo for photo in photographs if (folder / photo.name).is_file()]
        usable = [photo for photo in present if _is_large_enough(folder / photo.name, photo.part)]
        if not usable:
            raise DataError(
                f"{folder}: no photograph for the {split} part of the demo video is there; "
                "reinstall scikit-image from its wheel: pip install --force-reinstall scikit-image"
            )
        for photo in usable:
            path = folder / photo.name
            # Half as fast as the speeds, so that the two are not tied to each other.
            speed = _SPEEDS[number % len(_SPEEDS)]
            zoom = _ZOOMS[number // 2 % len(_ZOOMS)]
            yield _Scene(split, path.stem, path, photo.part, speed, 0.5 + number * _TURN, zoom)
            number += 1


def _is_large_enough(path: Path, part: float) -> bool:
    """Whether some movement fits in."""
    header = read_header(path)
    # The strongest zoom takes 6 % more than the window; the rest is room to move.
    margin = 1.15 * _STEP
    return header.width * part >= margin * SIZE[0] and header.height * part >= margin * SIZE[1]


def _write(scene: _Scene, folder: Path) -> None:
    picture = read_image(scene.photograph)
    places = _path(scene, picture.shape[1], picture.shape[0])
    gt = [_look(picture, *place) for place in places]
    width, height = SIZE
    compression = Compression((width // SCALE, height // SCALE), FILM_RATE, ENCODING)
    lq = compression.run(shrink(frame, SCALE) for frame in gt)
    for number, (frame, (_, compressed)) in enumerate(zip(gt, lq, strict=True)):
        write_frame(folder / "gt" / scene.name / f"{number:05}.png", frame)
        write_frame(folder / f"lq_x{SCALE}" / scene.name / f"{number:05}.png", compressed)


def _path(scene: _Scene, width: int, height: int) -> Iterator[tuple[float, float, float]]:
    """Centre of the window (x, y) and step, in pixels of the photograph, of every frame.

    A straight line through the middle, shortened where it would leave the photograph, with a small
    sway across it.
    """
    # By the golden angle no scene is exactly level or upright, so neither of these is 0.
    dx = math.cos(scene.angle)
    dy = math.sin(scene.angle)
    widest = _STEP * max(1.0, scene.zoom)
    room_x = (width * scene.part - SIZE[0] * widest) / 2
    room_y = (height * scene.part - SIZE[1] * widest) / 2
    wish = scene.speed * _STEP * (FRAMES - 1) / 2
    # A tenth of the room is left for the sway.
    half = min(wish, 0.9 * room_x / abs(dx), 0.9 * room_y / abs(dy))
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
    left, right = _bounds(columns)
    top, bottom = _bounds(rows)
    part = picture[top:bottom, left:right].astype(np.float32)
    # Separable: the weights of a row times those of a column.
    window = np.einsum(
        "ij,jkc,lk->ilc", rows[:, top:bottom], part, columns[:, left:right], optimize=True
    )
    return window.round().clip(0, 255).astype(np.uint8)


def _weights(count: int, length: int, centre: float, step: float) -> NDArray[np.float32]:
    """(count, length): pixel i of the window is row i times the pixels of the photograph.

    The kernel is that of Lanczos with three lobes, as wide as a pixel of the window.
    """
    places = centre + (np.arange(count) - (count - 1) / 2) * step
    distance = (np.arange(length) + 0.5 - places[:, None]) / step
    weights = np.where(np.abs(distance) < _LOBES, np.sinc(distance) * np.sinc(distance / _LOBES), 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _bounds(weights: NDArray[np.float32]) -> tuple[int, int]:
    """The first and one behind the last column that is not all zero."""
    used = np.flatnonzero(weights.any(axis=0))
    return int(used[0]), int(used[-1]) + 1
