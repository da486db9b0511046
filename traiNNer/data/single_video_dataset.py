"""LQ scenes without GT, for inference: frame by frame in a stream, or a window around each
frame.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Literal

from torch.utils.data import Dataset

from traiNNer.data.describe import describe_kinds, describe_sizes
from traiNNer.data.paired_video_dataset import (
    describe_scenes,
    require_positive,
    warn_of_variable_rate,
)
from traiNNer.data.sample import Sample, SampleRequest, stack
from traiNNer.data.scan import OF_SINGLE_FILES, as_roots, without_repeats
from traiNNer.data.scene_scan import find_scenes
from traiNNer.data.walk import LeftOut
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import Pixels, image_to_tensor
from traiNNer.utils.problems import Problems
from traiNNer.utils.registry import DATASETS
from traiNNer.video.scene_reader import ReaderPool, open_scene
from traiNNer.video.scenes import Scene, iterate_numbers


@dataclass(frozen=True, slots=True)
class SceneStream:
    """One scene to go through from its first to its last frame, in memory that does not grow with
    its length.

    Attributes:
        scene: where it is.
        name: its path below the root without a video's suffix, or its own name where it is the
            root; with `/` between folders.
    """

    scene: Scene
    name: str

    def __len__(self) -> int:
        """How many frames."""
        return len(self.scene)

    @property
    def path(self) -> Path:
        """The folder of the frames, or the video file."""
        return self.scene.path

    @property
    def is_video(self) -> bool:
        """Whether it is a video file (and not a folder of frames)."""
        return self.scene.video is not None

    @property
    def height(self) -> int:
        """The height of each frame, in pixels."""
        return self.scene.header.height

    @property
    def width(self) -> int:
        """The width of each frame, in pixels."""
        return self.scene.header.width

    @property
    def fps(self) -> Fraction | None:
        """Frames per second, the mean where it varies; None if unknown, as of a folder."""
        return self.scene.fps

    def frame_name(self, number: int) -> str:
        """The name of a frame without suffix: that of its file, or the number in a video."""
        return Path(self.scene.frame_path(number)).stem

    def frames(self) -> Iterator[Pixels]:
        """Decode all frames in order: (H, W, 3) RGB, uint8 (or uint16 of 16-bit image files). May
        be called again.

        Raises:
            DataError: if a frame cannot be read.
        """
        # All cores decode: it is in the main process, and nothing forks while a scene is read.
        with closing(open_scene(self.scene, threads=0)) as reader:
            for number in range(len(self)):
                yield reader.read(number)


@DATASETS.register("SingleVideoDataset")
class SingleVideoDataset(Dataset[Sample]):
    """LQ scenes without GT: one element for each frame of each scene, in order, with the frames
    around it.

    An element is asked for by a `SampleRequest` with `lq_size` None: lq (T, 3, h, w) with T =
    `clip_size`, whose frame T // 2 is the one; at the ends of a scene mirrored around the first or
    last frame. `streams` gives the frames themselves.

    Args:
        scale: how many times larger the results are, per side; the frames do not depend on it.
        dataroot_lq: a folder of scenes (folders of numbered frames, or video files), one scene
            folder, or one video file; or a list of such.
        clip_size: frames of a window.
        unusable: gets the scenes that cannot be used, where there are others; None makes an error
            of them. For programs, it is no option.

    Raises:
        DataError: listing all that is wrong with the folders, frames and videos.
    """

    # The frame in the middle is the one: see `EvalSet.target`.
    target: Literal["center"] = "center"

    def __init__(
        self,
        scale: int,
        dataroot_lq: str | list[str],
        clip_size: int = 5,
        unusable: Problems | None = None,
    ) -> None:
        require_positive(clip_size=clip_size)
        self.scale = scale
        self._clip_size = clip_size
        # Neighbouring windows share all but one of their frames.
        self._readers = ReaderPool(keep=clip_size)
        roots = as_roots(dataroot_lq)
        if not roots:
            raise DataError("dataroot_lq is an empty list; name a folder of scenes or a video")
        problems = Problems(what="scenes")
        self._streams: list[SceneStream] = []
        self._other_files = LeftOut()
        for root in without_repeats(roots):
            for scene in find_scenes(root, problems, self._other_files).scenes.values():
                self._streams.append(SceneStream(scene, scene.name or scene.own_name))
        if unusable is not None and self._streams:
            problems.move(OF_SINGLE_FILES, unusable)
        problems.raise_if_any()
        warn_of_variable_rate(stream.scene for stream in self._streams)
        # Where each scene ends in the numbering of all frames: a frame is found by bisection.
        self._ends = list(accumulate(map(len, self._streams)))

    def for_validation(self) -> SingleVideoDataset:
        """Itself: every frame of each scene is an element already."""
        return self

    @property
    def frames(self) -> int:
        """Frames of a sample's LQ: `clip_size`."""
        return self._clip_size

    @property
    def streams(self) -> list[SceneStream]:
        """The scenes, to go through frame by frame."""
        return self._streams

    @property
    def lq_paths(self) -> list[str]:
        """Each frame: its file, or the video's path with the frame's number behind it."""
        return [
            stream.scene.frame_path(number)
            for stream in self._streams
            for number in range(len(stream))
        ]

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: SampleRequest) -> Sample:
        """Read the window of a request: lq (T, 3, h, w), uint8 or float32 in [0, 1]; gt None.

        Raises:
            DataError: if a file cannot be read.
            DataError: if a crop is asked for, as for training.
        """
        if index.lq_size is not None:
            self.require_lq_size(index.lq_size)
        place = bisect_right(self._ends, index.index)
        scene = self._streams[place].scene
        middle = index.index - (self._ends[place - 1] if place else 0)
        reader = self._readers.reader(scene)
        numbers = iterate_numbers(middle - self.frames // 2, self.frames, 1, len(scene))
        lq = stack([image_to_tensor(reader.read(number)) for number in numbers])
        return Sample(lq, None, index.index, scene.frame_path(middle), None)

    def require_lq_size(self, lq_size: int) -> None:
        """Refuse to be trained on.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"a SingleVideoDataset has no GT, so there is nothing to train on (crops of {lq_size} "
            "pixels were asked for); use type: PairedVideoDataset with dataroot_gt and dataroot_lq"
        )

    def require_gt_side(self, side: int, what: str) -> None:
        """Nothing to refuse: there is no GT."""

    def summary(self) -> str:
        """One line: how many scenes and frames, their sizes, what is unusual."""
        scenes = [stream.scene for stream in self._streams]
        kinds = describe_kinds(
            [(header,) for scene in scenes if scene.files for header in scene.headers]
        )
        return ", ".join(
            [
                *describe_scenes(scenes),
                describe_sizes(scene.header for scene in scenes),
                *kinds,
                *self._other_files.describe(),
            ]
        )
