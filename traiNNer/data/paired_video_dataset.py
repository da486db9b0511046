"""Clips of frames from paired GT and LQ scenes."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from torch.utils.data import Dataset

from traiNNer.data.crop import SmallImages
from traiNNer.data.describe import describe_kinds, describe_sizes, warn_of_unequal_colors
from traiNNer.data.dynamic_dataloader_wrapper import PairedVideoDatasetDynamicMixin
from traiNNer.data.dynamic_mixins import ClipFrame, Target
from traiNNer.data.sample import Sample
from traiNNer.data.scan import OF_SINGLE_FILES, as_roots
from traiNNer.data.scene_scan import ScenePair, pair_scenes
from traiNNer.data.walk import LeftOut
from traiNNer.utils.errors import DataError
from traiNNer.utils.pixel_store import PixelStore, StoredPicture
from traiNNer.utils.problems import Problems
from traiNNer.utils.registry import DATASETS
from traiNNer.utils.text import plural
from traiNNer.video.scene_reader import ReaderPool, stored_frames
from traiNNer.video.scenes import Scene, iterate_numbers, mirrored

log = logging.getLogger(__name__)

ShortScenes = Literal["error", "skip"]


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames of one scene, from number `first` on; numbers outside the scene are mirrored."""

    scene: ScenePair
    first: int


class _StoredClips(ABC):
    """What makes a `StorableSet` of a dataset of clips."""

    readers: ReaderPool

    @property
    @abstractmethod
    def elements(self) -> Sequence[Clip]:
        """What is read."""

    def stored_pictures(self) -> Iterator[StoredPicture]:
        """See `StorableSet`."""
        # In order, each once: many clips are of one scene.
        pairs = dict.fromkeys(clip.scene for clip in self.elements)
        scenes = dict.fromkeys(scene for pair in pairs for scene in (pair.lq, pair.gt))
        for scene in scenes:
            yield from stored_frames(scene)

    def use_store(self, store: PixelStore) -> None:
        """See `StorableSet`."""
        self.readers.store = store


@DATASETS.register("PairedVideoDataset")
class PairedVideoDataset(PairedVideoDatasetDynamicMixin[Clip], _StoredClips, Dataset[Sample]):
    """Clips of GT and LQ scenes whose names belong together, GT exactly `scale` times as large. A
    clip never spans two scenes.

    A scene is a folder of numbered frames or a video file. All is checked from headers and packets
    when the dataset is made. An element is asked for by a `SampleRequest`: lq (T, 3, h, w) with T =
    `clip_size`, and gt (T, 3, H, W), or (3, H, W) with `target` center. `lq_path` and `gt_path`
    name the scene and the frame in the middle.

    Args:
        scale: how many times larger GT is than LQ, per side.
        dataroot_gt: folder of the GT scenes, with all of its sub-folders, or one scene; or a list
            of such.
        dataroot_lq: folder of the LQ scenes of the same names; for a list of GT folders, as many in
            the same order.
        clip_size: frames of a clip.
        target: GT of which frames; all, or center (the frame in the middle alone, of an odd
            clip_size).
        frame_stride: distance between the frames of a clip; 2 takes every other frame.
        clip_step: distance between the first frames of neighbouring clips; 1 begins a clip at every
            frame.
        use_hflip: exchange left and right of half of the training crops.
        use_rot: turn training crops by multiples of 90 degrees (by exchanging up and down, and rows
            and columns).
        use_time_flip: reverse the order of the frames of half of the training crops.
        small_images: frames smaller than the patch; error lists them, skip leaves them out, pad
            mirrors their edges.
        short_scenes: scenes shorter than a clip; error lists them, skip leaves them out.
        filename_tmpl: the name of an LQ scene, with {} for that of GT, a video's without suffix;
            '{}_x4' pairs beach.mkv with the folder beach_x4. Left out, equal names are pairs, and a
            mark such as x4 that all names of a side have is found.
        unusable: gets the scenes that cannot be used, where there are others; None makes an error
            of them. For programs, it is no option.

    Raises:
        DataError: listing all that is wrong with the options, folders, frames and videos.
    """

    # Each argument is an option of the dataset's section, with its own name and default.
    def __init__(  # noqa: PLR0913
        self,
        scale: int,
        dataroot_gt: str | list[str],
        dataroot_lq: str | list[str],
        clip_size: int = 5,
        target: Target = "all",
        frame_stride: int = 1,
        clip_step: int = 1,
        use_hflip: bool = True,
        use_rot: bool = True,
        use_time_flip: bool = False,
        small_images: SmallImages = "error",
        short_scenes: ShortScenes = "error",
        filename_tmpl: str | None = None,
        unusable: Problems | None = None,
    ) -> None:
        require_positive(clip_size=clip_size, frame_stride=frame_stride, clip_step=clip_step)
        if target == "center" and clip_size % 2 == 0:
            raise DataError(
                f"target: center needs a frame in the middle, and a clip of {clip_size} frames has "
                f"none; choose an odd clip_size, {clip_size - 1} or {clip_size + 1}"
            )
        self.scale = scale
        self.use_hflip = use_hflip
        self.use_rot = use_rot
        self.use_time_flip = use_time_flip
        self.small_images: SmallImages = small_images
        self.target: Target = target
        self.frame_stride = frame_stride
        self._clip_size = clip_size
        self.readers = ReaderPool()
        problems = Problems(what="scenes")
        self._other_files = LeftOut()
        self._scenes = self._find_scenes(
            as_roots(dataroot_gt), as_roots(dataroot_lq), filename_tmpl, problems
        )
        if unusable is not None and self._scenes:
            problems.move(OF_SINGLE_FILES, unusable)
        self.short_count = self._find_short(short_scenes, problems)
        problems.raise_if_any()
        warn_of_variable_rate(scene for pair in self._scenes for scene in (pair.gt, pair.lq))
        # The frames of a scene come from one program, so the first one speaks for all.
        warn_of_unequal_colors((pair.gt, pair.lq) for pair in self._scenes)
        last = self._span - 1
        self.use_elements(
            [
                Clip(scene, first)
                for scene in self._scenes
                for first in range(0, len(scene) - last, clip_step)
            ]
        )

    def _find_scenes(
        self,
        roots_gt: list[Path],
        roots_lq: list[Path],
        filename_tmpl: str | None,
        problems: Problems,
    ) -> list[ScenePair]:
        """The scenes to read; what is wrong goes to `problems`."""
        return pair_scenes(
            roots_gt, roots_lq, self.scale, problems, filename_tmpl, self._other_files
        )

    @property
    def frames(self) -> int:
        """Frames of a sample's LQ: `clip_size`."""
        return self._clip_size

    @property
    def scenes(self) -> list[ScenePair]:
        """All scenes, those that are too short for a clip too."""
        return self._scenes

    def for_validation(self) -> PairedVideoDataset:
        """The same scenes, one element for each frame of each scene, in order: the clip around it,
        and its GT.

        The frame is number T // 2 of the T frames of lq, and gt (3, H, W) is that of this frame
        alone, whatever `target` is. At the ends of a scene the clip is mirrored around the first or
        last frame, so that scenes which are shorter than a clip are there too. Neighbouring clips
        share frames, which are decoded once.
        """
        # A copy, so that nothing is scanned a second time.
        other = copy.copy(self)
        other.target = "center"
        other.use_hflip = False
        other.use_rot = False
        other.use_time_flip = False
        # Neighbouring windows share all but one of their frames.
        other.readers = ReaderPool(keep=self._span)
        other.short_count = 0
        before = self._middle * self.frame_stride
        other.use_elements(
            [Clip(scene, middle - before) for scene in self._scenes for middle in range(len(scene))]
        )
        return other

    @property
    def lq_paths(self) -> list[str]:
        """The LQ frame in the middle of each clip, see `name_paths`."""
        return [self.name_paths(clip)[0] for clip in self.elements]

    def lq_extent(self, element: Clip) -> tuple[int, int]:
        """Height and width of the LQ frames in pixels, from the scene's header."""
        header = element.scene.lq.header
        return header.height, header.width

    def name_paths(self, element: Clip) -> tuple[str, str]:
        """The frame in the middle, of LQ and of GT: its file, or the video's path with the frame's
        number behind it.
        """
        number = mirrored(element.first + self._middle * self.frame_stride, len(element.scene))
        return element.scene.lq.frame_path(number), element.scene.gt.frame_path(number)

    def read_frames(self, element: Clip) -> Iterator[ClipFrame]:
        """Decode the frames in order; with `target` center GT of the middle one alone.

        Raises:
            DataError: if a file cannot be read.
        """
        lq, gt = (self.readers.reader(scene) for scene in (element.scene.lq, element.scene.gt))
        numbers = iterate_numbers(element.first, self.frames, self.frame_stride, len(element.scene))
        for place, number in enumerate(numbers):
            # Decoding GT is most of the work, and of no use where nobody looks at it.
            needs_gt = self.target == "all" or place == self._middle
            yield lq.read(number), gt.read(number) if needs_gt else None

    def require_gt_side(self, side: int, what: str) -> None:
        """Refuse GT scenes that are too small for `what`, whose sides have to be at least `side`
        pixels.

        Raises:
            DataError: naming them.
        """
        problems = Problems(what="scenes")
        for scene in {clip.scene: None for clip in self.elements}:
            header = scene.gt.header
            if min(header.width, header.height) < side:
                problems.add(
                    f"GT scene smaller than the {side}x{side} pixels that {what} needs",
                    f"{scene.gt.path} is {header.width}x{header.height}",
                )
        problems.raise_if_any()

    def summary(self) -> str:
        """One line: how many scenes, frames and clips, their sizes, what is unusual."""
        # In order, each once: many clips are of one scene.
        used = list({clip.scene: None for clip in self.elements})
        # Videos are all alike in what is told of frames: 8 bits, three channels.
        frames = chain.from_iterable(
            zip(pair.gt.headers, pair.lq.headers, strict=True)
            for pair in used
            if pair.gt.files or pair.lq.files
        )
        parts = [
            *describe_scenes([pair.gt for pair in used]),
            f"{plural(len(self), 'clip')} of {plural(self.frames, 'frame')}",
            f"GT {describe_sizes(pair.gt.header for pair in used)}",
            *describe_kinds(list(frames)),
        ]
        if self.left_out:
            parts.append(f"{plural(self.left_out, 'clip')} left out (smaller than the patch)")
        if self.short_count:
            parts.append(f"{plural(self.short_count, 'scene')} left out (shorter than a clip)")
        parts += self._other_files.describe()
        return ", ".join(parts)

    @property
    def _span(self) -> int:
        """Frames from the first to the last one of a clip."""
        return (self.frames - 1) * self.frame_stride + 1

    @property
    def _middle(self) -> int:
        """Place of the middle frame within a clip."""
        return self.frames // 2

    def _find_short(self, short_scenes: ShortScenes, problems: Problems) -> int:
        """How many scenes are shorter than a clip; what is wrong about it is added to
        `problems`.
        """
        short = [pair for pair in self._scenes if len(pair) < self._span]
        needs = f"a clip of {self.frames} frames (clip_size)"
        if self.frame_stride > 1:
            needs += (
                f" at a distance of {self.frame_stride} (frame_stride), which spans {self._span}"
            )
        # Skipping all of them would leave nothing to train on, so that is an error as well.
        if short and len(short) == len(self._scenes):
            longest = max(short, key=len)
            # The largest clip whose span the longest scene has room for.
            fitting = (len(longest) - 1) // self.frame_stride + 1
            problems.add(
                f"every scene is shorter than {needs}; choose clip_size {fitting} or less",
                f"the longest is {longest.lq.path} with {plural(len(longest), 'frame')}",
            )
        elif short_scenes == "error":
            for pair in short:
                problems.add(
                    f"scene shorter than {needs}; choose a smaller clip_size, or set short_scenes: "
                    "skip",
                    f"{pair.lq.path} has {plural(len(pair), 'frame')}",
                )
        return len(short)

    def _too_small(self, elements: list[Clip], lq_size: int) -> DataError:
        # One line for each scene, not for each of its clips: the first clip, hence backwards.
        firsts = {clip.scene: clip for clip in reversed(elements)}
        return super()._too_small(list(firsts.values())[::-1], lq_size)


def require_positive(**options: int) -> None:
    """Refuse options below 1.

    Raises:
        DataError: naming the option.
    """
    for name, value in options.items():
        if value < 1:
            raise DataError(f"{name} is {value}; it is 1 or more")


def describe_scenes(scenes: list[Scene]) -> list[str]:
    """How many scenes and frames, for a summary."""
    videos = sum(scene.video is not None for scene in scenes)
    files = f" ({plural(videos, 'video')})" if videos else ""
    return [plural(len(scenes), "scene") + files, plural(sum(map(len, scenes)), "frame")]


def warn_of_variable_rate(scenes: Iterator[Scene]) -> None:
    """Say which videos have frames at unequal distances: they are taken by number, as if the
    distances were equal.
    """
    for scene in scenes:
        if scene.video is not None and scene.video.variable_rate:
            log.warning(
                "%s: its frame rate varies; frames are taken by their number, not by their time",
                scene.path,
            )
