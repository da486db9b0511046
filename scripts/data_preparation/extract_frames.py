#!/usr/bin/env python3
"""Write the frames of videos as pictures, with a new folder at every cut:
OUT/VIDEO_scene0001/00000.png and so on.

A cut is found by comparing small versions of neighbouring frames (longer side 64 pixels) in two
ways. Structure: one minus the highest correlation of one frame's middle with any place of the
other; a pan or a brighter light changes it little. Colour: how far the histograms of Y, Cb and Cr
differ (half the sum of absolute differences); a pan or a moving object changes them little. Both
are from 0 to 1, and the difference of two frames is the square root of their product. It is a cut
where that exceeds --cut-threshold, and twice the median of the frames around (in restless scenes
all frames differ), and where nothing a few frames before is like what follows (else it was a
flash). Fades and dissolves are no cuts.

Damaged videos are refused. --keep-going takes what can be decoded, and begins a new scene behind
every damage.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.table import Table

from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.progress import ProgressBar
from traiNNer.utils.errors import DataError, DiskError, OptionsError
from traiNNer.video.colors import Frame, FrameToRgb
from traiNNer.video.files import open_video, reason_of, scan_video, video_errors
from traiNNer.video.writing import staging, write_frame

if TYPE_CHECKING:
    from av import Packet, VideoCodecContext, VideoFrame, VideoStream
    from av.container import InputContainer

# All cuts between 15 different photographs exceed it, pans of 1/7 of the width do not.
CUT_THRESHOLD = 0.16
# Enough to tell scenes apart, and small enough that comparing costs less than decoding.
SMALL_SIDE = 64
# Frames that are looked at around a cut; a flash is shorter.
AHEAD = 5
BEHIND = 5
# A cut is this many times the usual level.
RESTLESS = 2.0
# Levels of standard deviation: below, there is no structure to compare.
FLAT = 1.5
# Levels: every cell of 8x8 pixels of a duplicate changes by less, which coding noise stays below.
STILL = 4.0
# Compressing PNG is what takes the time, and it runs without Python.
WRITERS = min(8, os.cpu_count() or 1)
# Frames that wait to be written, at most.
WRITING = 2 * WRITERS
# FFmpeg's numbers of PQ and HLG.
HDR_CURVES = (16, 18)
HDR = "this is HDR, which is written as it is, without tone mapping"
INTERLACED = "this is interlaced; deinterlace it first, or the frames have combs"

# Writes a frame to a file; the suffix says how.
WriteFrame = Callable[[Path, Frame], None]


class Look(NamedTuple):
    """What of a frame is compared: small luma, and (3, 32) histograms of Y, Cb, Cr."""

    luma: NDArray[np.float32]
    histograms: NDArray[np.float32]


class Seen(NamedTuple):
    """A frame, its look, how much it differs from the frame before, and whether there is none right
    before it.
    """

    rgb: Frame
    look: Look
    difference: float
    gap: bool


class Summary(NamedTuple):
    """What became of a video; all but the notes is a row of the table."""

    name: str
    read: int
    scenes: int
    written: int
    dropped: int
    damaged: int
    notes: list[str]


def look_at(rgb: Frame) -> Look:
    """Shrink a frame and count its colours."""
    height, width = rgb.shape[:2]
    ratio = SMALL_SIDE / max(height, width)
    size = (max(16, round(width * ratio)), max(16, round(height * ratio)))
    small = cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2YCrCb)
    counts = np.concatenate(
        # Bins of 8 levels, so that coding noise moves little from one to another.
        [cv2.calcHist([small], [channel], None, [32], [0, 256]).T for channel in range(3)]
    )
    # Blurred, because a shade lighter is no other colour.
    smooth = cv2.GaussianBlur(counts / (size[0] * size[1]), (9, 1), 1.5)
    return Look(small[..., 0].astype(np.float32), np.asarray(smooth, np.float32))


def difference(one: Look, other: Look) -> float:
    """From 0 (alike) to 1 (nothing in common)."""
    if one.luma.shape != other.luma.shape:  # they are of different sizes
        return 1.0
    # Both ways: a zoom shows the middle of one in the other, but not the other way round.
    structure = 1 - max(correlation(one.luma, other.luma), correlation(other.luma, one.luma))
    colour = float(np.abs(one.histograms - other.histograms).sum(axis=1).mean()) / 2
    return (structure * colour) ** 0.5


def correlation(part: NDArray[np.float32], whole: NDArray[np.float32]) -> float:
    """The highest of the middle of one with any place of the other, at least 0."""
    # A quarter on each side is how far a pan may go.
    rows = slice(part.shape[0] // 4, -(part.shape[0] // 4))
    columns = slice(part.shape[1] // 4, -(part.shape[1] // 4))
    middle = part[rows, columns]
    if middle.std() < FLAT:
        return float(whole[rows, columns].std() < FLAT)
    match = cv2.matchTemplate(whole, np.ascontiguousarray(middle), cv2.TM_CCOEFF_NORMED)
    # Where the other is flat, a correlation is 0 / 0.
    return float(np.nan_to_num(match, posinf=0, neginf=0).max().clip(0, 1))


def find_cuts(
    frames: Iterable[tuple[Frame, bool]], threshold: float
) -> Iterator[tuple[Frame, bool]]:
    """(frame, whether a scene begins with it) from (frame, whether something is missing before it).

    `AHEAD` frames wait, and no more.
    """
    waiting: deque[Seen] = deque()
    behind: deque[Seen] = deque(maxlen=BEHIND)
    last: Seen | None = None
    for rgb, gap in frames:
        look = look_at(rgb)
        alone = last is None or gap or last.rgb.shape != rgb.shape
        last = Seen(rgb, look, 0.0 if last is None or alone else difference(last.look, look), alone)
        waiting.append(last)
        if len(waiting) > AHEAD:
            yield waiting[0].rgb, is_cut(waiting, behind, threshold)
            behind.append(waiting.popleft())
    while waiting:
        yield waiting[0].rgb, is_cut(waiting, behind, threshold)
        behind.append(waiting.popleft())


def is_cut(waiting: Sequence[Seen], behind: Sequence[Seen], threshold: float) -> bool:
    """Whether a scene begins with the first waiting frame."""
    now, *ahead = waiting
    if now.gap or now.difference < threshold:
        return now.gap
    usual = median([seen.difference for seen in (*behind, *ahead)])
    if now.difference < RESTLESS * usual:
        return False
    # What begins or ends a flash is unlike its neighbour, but like the frame on the other side of
    # the flash.
    across = [(behind[-1], seen) for seen in ahead] + [(seen, now) for seen in behind]
    return all(difference(one.look, other.look) > now.difference / 2 for one, other in across)


class Reader:
    """The frames of a video one after the other, from `start` to `end` seconds after its beginning.

    With `keep_going` what is damaged is left out, up to the next key frame; else it is an error.
    """

    def __init__(self, path: Path, start: float, end: float, keep_going: bool) -> None:
        self._path = path
        self._start = start
        self._end = end
        self._keep_going = keep_going
        self._whole = start == 0 and end == float("inf")
        self.read = 0
        self.damaged = 0
        self.notes: list[str] = []
        self.total = 0
        """The frames that are to be expected, 0 if that is unknown."""
        # What cannot be indexed may still be decoded in part.
        try:
            video = scan_video(path)
            span = min(len(video) / float(video.fps or 1), end) - start
            self.total = len(video) if self._whole else max(0, round(span * (video.fps or 1)))
        except DataError as error:
            if not keep_going:
                raise DataError(f"{error} (--keep-going takes what can be decoded)") from error
            self.notes.append(str(error))

    def frames(self) -> Iterator[tuple[Frame, bool]]:
        """(frame, whether something is missing before it)."""
        container, stream = open_video(self._path)
        missing = True
        convert = FrameToRgb(stream.codec_context.name)
        with container:
            # The setter takes names, and pyright knows the getter only.
            stream.thread_type = "AUTO"  # pyright: ignore[reportAttributeAccessIssue]
            stream.codec_context.options = {"err_detect": "explode"}  # instead of patching holes
            zero = float((stream.start_time or 0) * (stream.time_base or 0))
            if self._start and stream.time_base:
                target = int((self._start + zero) / stream.time_base)
                # Where seeking is impossible, all before is decoded.
                with contextlib.suppress(*video_errors()):
                    container.seek(target, stream=stream, backward=True)
            for frame in self._decode(container, stream):
                if frame is None:
                    missing = True
                    continue
                time = self._start if frame.time is None else frame.time - zero
                if time >= self._end:
                    break
                if time < self._start - 1e-6:  # decoded on the way from the key frame
                    continue
                self._note(frame)
                self.read += 1
                yield np.ascontiguousarray(np.rot90(convert(frame), frame.rotation // 90)), missing
                missing = False
        if self._whole and not self.damaged and self.read < self.total:
            self._report(
                ValueError(f"only {self.read} of {self.total} frames came out of the decoder")
            )

    def _decode(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[VideoFrame | None]:
        """The frames, and None where some are left out."""
        context = stream.codec_context
        packets = container.demux(stream)
        first_time = None
        waits_for_key = True
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if packet.size and waits_for_key:
                    if not packet.is_keyframe:
                        continue
                    waits_for_key = False
                    first_time = packet.pts
                for frame in decode_sound(context, packet):
                    # What is shown before the key frame refers to what was left out.
                    if first_time is None or frame.pts is None or frame.pts >= first_time:
                        yield frame
            except EOFError:  # nothing is left in the decoder
                return
            except video_errors() as error:
                self._report(error)
                yield None
                # All until the next key frame would be made from what is damaged.
                context.flush_buffers()
                waits_for_key = True

    def _report(self, error: Exception) -> None:
        self.damaged += 1
        if not self._keep_going:
            raise DataError(
                f"{self._path}: damaged behind frame {self.read} ({reason_of(error)}); copy or "
                "download it again, or take what can be decoded with --keep-going"
            ) from error

    def _note(self, frame: VideoFrame) -> None:
        for note, applies in (
            (INTERLACED, frame.interlaced_frame),
            (HDR, frame.color_trc in HDR_CURVES),
        ):
            if applies and note not in self.notes:
                self.notes.append(note)


def decode_sound(context: VideoCodecContext, packet: Packet[Any]) -> Iterator[VideoFrame]:
    """The frames of a packet, or those that the decoder still holds if it is the empty one at the
    end.

    Raises:
        ValueError: if the packet or one of the frames is damaged.
    """
    if packet.is_corrupt:
        raise ValueError("a packet is cut short")
    for frame in context.decode(packet if packet.size else None):
        if frame.is_corrupt:
            raise ValueError("its data are damaged")
        yield frame


class SceneWriter:
    """Writes frames into `folder`/NAME_scene0001 and so on; scenes that are too short leave
    nothing.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        arguments: argparse.Namespace,
        pool: ThreadPoolExecutor,
        write: WriteFrame,
    ) -> None:
        self._write = write
        self._folder = folder
        self._name = name
        self._arguments = arguments
        self._pool = pool
        self._current = folder / "current"
        self._offered = 0
        self._count = 0
        self._still: NDArray[np.uint8] | None = None
        self._pending: deque[Future[None]] = deque()
        self.scenes = 0
        self.written = 0
        self.dropped = 0
        self.kept = 0

    def begin(self) -> None:
        """End the scene so far, if any."""
        while self._pending:
            self._pending.popleft().result()
        if self._count >= self._arguments.min_scene:
            self.scenes += 1
            self.written += self._count
            self._current.rename(self._folder / f"{self._name}_scene{self.scenes:04}")
        elif self._count:
            self.dropped += 1
            shutil.rmtree(self._current)
        self._offered = 0
        self._count = 0
        self._still = None

    def add(self, rgb: Frame) -> None:
        """Write a frame, unless it is left out."""
        if self._arguments.skip_duplicates and self._is_duplicate(rgb):
            return
        self._offered += 1
        if (self._offered - 1) % self._arguments.every:
            return
        if len(self._pending) >= WRITING:  # memory stays flat
            self._pending.popleft().result()
        path = self._current / f"{self._count:05}.{self._arguments.format}"
        self._pending.append(self._pool.submit(self._write, path, rgb))
        self._count += 1
        self.kept += 1

    def _is_duplicate(self, rgb: Frame) -> bool:
        size = (max(1, rgb.shape[1] // 8), max(1, rgb.shape[0] // 8))
        # Means of 8x8 pixels, as large as the blocks of a codec: its noise cancels out in them.
        cells = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        if self._still is not None and cv2.absdiff(cells, self._still).max() < STILL:
            return True
        self._still = cells
        return False


def extract(path: Path, arguments: argparse.Namespace, write: WriteFrame) -> Summary:
    """Write the scenes of a video below OUT."""
    reader = Reader(path, arguments.start, arguments.end, arguments.keep_going)
    bar = ProgressBar(reader.total, 0)
    bar.say(path.name)
    try:
        with staging(arguments.out / path.stem) as folder, ThreadPoolExecutor(WRITERS) as pool:
            scenes = SceneWriter(folder, path.stem, arguments, pool, write)
            for rgb, cut in find_cuts(reader.frames(), arguments.cut_threshold):
                if cut:
                    scenes.begin()
                scenes.add(rgb)
                bar.advance()
                if scenes.kept == arguments.max_frames:
                    break
            scenes.begin()
            install(folder, arguments.out, path.stem)
    finally:
        bar.close()
    return Summary(
        path.name,
        reader.read,
        scenes.scenes,
        scenes.written,
        scenes.dropped,
        reader.damaged,
        reader.notes,
    )


def install(folder: Path, out: Path, name: str) -> None:
    """Move the scenes to their place; those of a former call go to the trash, which is in
    `folder`.
    """
    try:
        (folder / "trash").mkdir()
        for former in scene_folders(out, name):
            former.rename(folder / "trash" / former.name)
        for scene in scene_folders(folder, name):
            scene.rename(out / scene.name)
    except OSError as error:
        raise DiskError(f"cannot write {out}: {error.strerror or error}") from error


def scene_folders(folder: Path, name: str) -> list[Path]:
    """What this program made of a video of that name."""
    return sorted(
        path
        for path in folder.glob("*")
        if re.fullmatch(re.escape(name) + r"_scene\d{4,}", path.name)
    )


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("videos", type=Path, nargs="+", metavar="VIDEO", help="video files")
    add("-o", "--out", type=Path, required=True, help="where to write the folders of the scenes")
    add(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="take the first of every N frames (default: all)",
    )
    add(
        "--max-frames",
        type=int,
        metavar="N",
        help="stop a video after N frames were taken (default: no limit)",
    )
    add(
        "--format",
        choices=("png", "webp"),
        default="png",
        help="webp is lossless, smaller, slower (default: png)",
    )
    add(
        "--min-scene",
        type=int,
        default=10,
        metavar="N",
        help="drop scenes of fewer frames (default: %(default)s)",
    )
    add(
        "--cut-threshold",
        type=float,
        default=CUT_THRESHOLD,
        help="0 to 1, lower cuts more (default: %(default)s)",
    )
    add(
        "--start",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="leave out what is before (default: 0)",
    )
    add(
        "--end",
        type=float,
        default=float("inf"),
        metavar="SECONDS",
        help="leave out what is behind (default: all)",
    )
    add(
        "--skip-duplicates",
        action="store_true",
        help="leave out frames that look like the one before",
    )
    add("--keep-going", action="store_true", help="take what can be decoded of damaged videos")
    add(
        "--overwrite",
        action="store_true",
        help="replace the scenes that a former call made of these videos",
    )
    return parser.parse_args(argv)


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be done before anything is read."""
    limit = 1 if arguments.max_frames is None else arguments.max_frames
    if min(arguments.every, arguments.min_scene, limit) < 1:
        raise OptionsError("--every, --min-scene and --max-frames must be at least 1")
    if not 0 <= arguments.cut_threshold <= 1:
        raise OptionsError("--cut-threshold is from 0 to 1")
    if not 0 <= arguments.start < arguments.end:
        raise OptionsError("--start must be at least 0 and before --end")
    stems = [path.stem for path in arguments.videos]
    repeated = next((stem for stem in stems if stems.count(stem) > 1), None)
    if repeated is not None:
        raise OptionsError(
            f"two of the videos are called {repeated}, and so would be their scenes; take two --out"
        )
    for stem in stems:
        there = scene_folders(arguments.out, stem)
        if there and not arguments.overwrite:
            raise OptionsError(
                f"{there[0]} is there already; --overwrite replaces all scenes of {stem}"
            )


def run(arguments: argparse.Namespace, write: WriteFrame = write_frame) -> int:
    """Extract all videos and print what was written."""
    check(arguments)
    table = Table("video", "frames read", "scenes", "frames written", "scenes dropped", "damages")
    summaries = []
    for path in arguments.videos:
        summaries.append(extract(path, arguments, write))
        table.add_row(*map(str, summaries[-1][:-1]))
    # In a pipe rich takes 80 columns, which would break the names of videos.
    # Names of scenes are no markup.
    console = Console(width=None if sys.stdout.isatty() else 140, markup=False, emoji=False)
    console.print(table)
    for summary in summaries:
        for note in summary.notes:
            print(f"note on {summary.name}: {note}")
    written = sum(s.written for s in summaries)
    scenes = sum(s.scenes for s in summaries)
    if not scenes:
        raise DataError(
            f"nothing was written: no scene has {arguments.min_scene} frames; see --min-scene"
        )
    print(f"{written} frames, scenes: {scenes}, in {arguments.out.absolute()}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Return the exit code."""
    arguments = parse(argv)
    return run_plainly(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
