"""What is known of a video file: its index, and remembering it."""

from __future__ import annotations

import json
import logging
from dataclasses import astuple, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from traiNNer.utils.errors import DiskError
from traiNNer.utils.files import write_atomic
from traiNNer.video.tags import LUMA_SHARES, VideoColors

log = logging.getLogger(__name__)

# To be raised when what is remembered changes its meaning: old caches are then read anew.
_CACHE_VERSION = 2
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
        mirrored: whether its rows are to be reversed before that.
        matrix: number of the YCbCr matrix (ISO/IEC 23091-2), 2 where the file does not say.
        colors: what its colours are taken for, and how a new file of them is to be coded.
        pts: (N,) timestamps of the frames in the order of presentation, in the file's own unit.
        keys: (K,) ascending timestamps of the frames at which decoding can begin.
        timed: False where timestamps are missing or mere guesses: then frames are counted from the
            beginning, and `pts` are their numbers.
        stamp: size in bytes and time of change in ns.
        remarks: what a user should know of how it is read, each a clause that goes for many files.
    """

    path: Path
    width: int
    height: int
    fps: Fraction | None
    rotation: int
    mirrored: bool
    matrix: int
    colors: VideoColors
    pts: NDArray[np.int64]
    keys: NDArray[np.int64]
    timed: bool
    stamp: tuple[int, int]
    remarks: tuple[str, ...] = ()

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


def load_index(cache: Path | None, path: Path, stamp: tuple[int, int]) -> Video | None:
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
            mirrored=bool(known["mirrored"]),
            matrix=int(known["matrix"]),
            colors=_read_colors(known["colors"]),
            pts=_expand(known["pts"]),
            keys=_expand(known["keys"]),
            timed=bool(known["timed"]),
            stamp=stamp,
            remarks=tuple(map(str, known["remarks"])),
        )
    except (
        OSError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        MemoryError,
    ) as error:
        log.debug("what is remembered in %s is ignored: %r", cache, error)
        return None


def save_index(cache: Path | None, video: Video) -> None:
    if cache is None:
        return
    content = {
        "version": _CACHE_VERSION,
        "stamp": video.stamp,
        "width": video.width,
        "height": video.height,
        "fps": None if video.fps is None else str(video.fps),
        "rotation": video.rotation,
        "mirrored": video.mirrored,
        "matrix": video.matrix,
        "colors": astuple(video.colors),
        "pts": _compress(video.pts),
        "keys": _compress(video.keys),
        "timed": video.timed,
        "remarks": video.remarks,
    }
    try:
        write_atomic(cache, json.dumps(content).encode())
    except (DiskError, OSError) as error:  # a full or read-only home is no reason not to train
        log.debug("the index of %s is not remembered: %s", video.path, error)


def _read_colors(known: list[int]) -> VideoColors:
    matrix, full_range, primaries, transfer = known
    if matrix not in LUMA_SHARES:
        raise ValueError(f"matrix {matrix}")
    return VideoColors(int(matrix), bool(full_range), int(primaries), int(transfer))


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
