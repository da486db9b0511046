"""Clips of GT alone: LQ is made of them while reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from traiNNer.data.crop import SmallImages
from traiNNer.data.degraded import DegradedDataset
from traiNNer.data.dynamic_mixins import Target
from traiNNer.data.paired_video_dataset import Clip, PairedVideoDataset, ShortScenes
from traiNNer.data.sample import SampleRequest
from traiNNer.data.scan import without_repeats
from traiNNer.data.scene_scan import ScenePair, find_scenes
from traiNNer.ops.resize import ResizeMode
from traiNNer.options.degradations import Steps
from traiNNer.utils.images import Pixels
from traiNNer.utils.problems import Problems
from traiNNer.utils.registry import DATASETS
from traiNNer.utils.seeds import hash_seed
from traiNNer.video.scenes import iterate_numbers, mirrored


@DATASETS.register("SingleGtVideoDataset", aliases=("GtVideoDataset",))
class SingleGtVideoDataset(DegradedDataset[Clip], PairedVideoDataset):
    """Clips of GT scenes, of which LQ is made: by shrinking them, or by a recipe of degradations
    that is drawn once for a clip, noise anew for each frame; codecs of films compress the clip as
    one film. Sides that are no multiple of the scale are cut off at the right and below.

    Args:
        scale: how many times larger GT is than LQ, per side.
        dataroot_gt: folder of the GT scenes (folders of numbered frames, or video files), with all
            of its sub-folders, or one scene; or a list of such.
        degradations: the recipe that makes LQ, a list of steps or a recipe's name; null shrinks.
        lq_resize_mode: the kernel that shrinks; with degradations at the end, where none of them
            does.
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
        degradations: Steps | None = None,
        lq_resize_mode: ResizeMode = "bicubic",
        clip_size: int = 5,
        target: Target = "all",
        frame_stride: int = 1,
        clip_step: int = 1,
        use_hflip: bool = True,
        use_rot: bool = True,
        use_time_flip: bool = False,
        small_images: SmallImages = "error",
        short_scenes: ShortScenes = "error",
        unusable: Problems | None = None,
    ) -> None:
        super().__init__(
            scale=scale,
            dataroot_gt=dataroot_gt,
            dataroot_lq=dataroot_gt,
            clip_size=clip_size,
            target=target,
            frame_stride=frame_stride,
            clip_step=clip_step,
            use_hflip=use_hflip,
            use_rot=use_rot,
            use_time_flip=use_time_flip,
            small_images=small_images,
            short_scenes=short_scenes,
            unusable=unusable,
        )
        self.degrade_by(degradations, lq_resize_mode)
        # Films are degraded alike in all of their frames, however these are cut into clips.
        self._numbers = {pair.gt.path: number for number, pair in enumerate(self.scenes)}

    def _find_scenes(
        self,
        roots_gt: list[Path],
        roots_lq: list[Path],
        filename_tmpl: str | None,
        problems: Problems,
    ) -> list[ScenePair]:
        """Every scene of GT, as its own partner."""
        del roots_lq, filename_tmpl
        scenes = [
            scene
            for root in without_repeats(roots_gt)
            for scene in find_scenes(root, problems, self._other_files).scenes.values()
        ]
        for scene in scenes:
            header = scene.header
            if min(header.height, header.width) < self.scale:
                kind = f"scene smaller than {self.scale}x{self.scale} pixels, of which no LQ can "
                problems.add(kind + "be made", f"{scene.path} is {header.width}x{header.height}")
        return [ScenePair(scene, scene) for scene in scenes]

    @property
    def target_of_clips(self) -> Target:
        """Which frames of a clip GT is of."""
        return self.target

    def lq_extent(self, element: Clip) -> tuple[int, int]:
        """Height and width of the LQ frames in pixels, from the scene's header."""
        header = element.scene.gt.header
        return header.height // self.scale, header.width // self.scale

    def name_paths(self, element: Clip) -> tuple[str, str]:
        """The frame in the middle of GT, twice."""
        number = mirrored(element.first + self._middle * self.frame_stride, len(element.scene))
        path = element.scene.gt.frame_path(number)
        return path, path

    def read_gt(self, element: Clip) -> Iterator[Pixels]:
        """Decode the frames of GT in order.

        Raises:
            DataError: if a file cannot be read.
        """
        reader = self.readers.reader(element.scene.gt)
        for number in iterate_numbers(
            element.first, self.frames, self.frame_stride, len(element.scene)
        ):
            yield reader.read(number)

    def _seed_of_whole(self, request: SampleRequest) -> int:
        return hash_seed(0, self._numbers[self.elements[request.index].scene.gt.path])

    def summary(self) -> str:
        """One line: how many scenes, frames and clips, their sizes, what is unusual."""
        how = "degraded" if self.is_degraded else self.mode
        return f"{super().summary()}, LQ made of it ({how})"
