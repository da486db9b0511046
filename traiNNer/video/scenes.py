"""Scenes: frames that follow each other, in a folder of image files or in a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from traiNNer.utils.images import ImageHeader
from traiNNer.video.files import Video


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Frames that follow each other: the image files of a folder, or a video.

    Attributes:
        path: the folder or the video file.
        name: the path below the root without a video's suffix, by which scenes are paired; empty
            for the root itself.
        headers: of each frame's picture.
        files: the frames of a folder in the order of their numbers; empty for a video.
        video: the index of a video; None for a folder.
    """

    path: Path
    name: str
    headers: Sequence[ImageHeader]
    files: tuple[str, ...] = ()
    video: Video | None = None

    def __len__(self) -> int:
        return len(self.headers)

    @property
    def own_name(self) -> str:
        """Its own name, whatever lies above it: for the scene that is a root itself."""
        # Absolute, because the name of "." is empty.
        return self.path.stem if self.video is not None else self.path.absolute().name

    @property
    def header(self) -> ImageHeader:
        """The header of the first frame; all of them are equally large."""
        return self.headers[0]

    @property
    def fps(self) -> Fraction | None:
        """Frames per second of a video, the mean where it varies; None if unknown, as of a
        folder.
        """
        return None if self.video is None else self.video.fps

    def frame_path(self, number: int) -> str:
        """The file of a frame; of a video its path with the frame's number behind it, as if it were
        a folder.
        """
        return str(self.path / (self.files[number] if self.files else f"{number:08d}"))


def mirrored(number: int, length: int) -> int:
    """A frame's number beyond the ends of a scene of `length` frames, mirrored around the first and
    the last frame.
    """
    if length == 1:
        return 0
    # There and back without showing the ends twice.
    place = number % (2 * length - 2)
    return min(place, 2 * length - 2 - place)


def iterate_numbers(first: int, frames: int, stride: int, length: int) -> Iterator[int]:
    """The numbers of a clip's frames, mirrored at the ends of the scene."""
    return (mirrored(first + stride * k, length) for k in range(frames))
