"""Finding scenes, each a folder of numbered frames or a video file, and pairing those of GT and LQ.

As for images, headers are read only, and everything that is wrong is collected for one error.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from traiNNer.data.scan import ImagePair, Problems, ScannedImage, check_sizes, scan_with_unusable
from traiNNer.data.video_files import VIDEO_SUFFIXES, Video, scan_video
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import IMAGE_SUFFIXES, ImageHeader

log = logging.getLogger(__name__)

_THREADS = 4
_MOST_NUMBERS = 8
_NUMBERED = re.compile(r"(.*?)([0-9]+)", re.DOTALL)
_UNKNOWN_MATRIX = 2


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
    def header(self) -> ImageHeader:
        """Of the first frame; all of them are equally large."""
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

    def as_image(self) -> ScannedImage:
        """The scene as if it were one picture, for messages about its size."""
        return ScannedImage(self.path.parent, self.path.name, self.header)


@dataclass(frozen=True, slots=True, eq=False)
class ScenePair:
    """A GT scene and the LQ scene of the same name; as many frames in both."""

    gt: Scene
    lq: Scene

    def __len__(self) -> int:
        return len(self.lq)


@dataclass
class FoundScenes:
    """The scenes of a root by name, and the names of those that cannot be used."""

    scenes: dict[str, Scene] = field(default_factory=dict)
    unusable: set[str] = field(default_factory=set)

    def add(self, scene: Scene, problems: Problems) -> None:
        """Take in a scene, unless another one has its name."""
        if scene.name in self.scenes:
            problems.add(
                "two scenes of one name (without the suffix) in a folder; remove or rename one",
                f"{self.scenes[scene.name].path} and {scene.path.name}",
            )
        self.scenes.setdefault(scene.name, scene)


def find_scenes(root: Path, problems: Problems) -> FoundScenes:
    """All scenes below a folder, or the scene that a video file is, sorted by name. What is wrong
    goes to `problems`.

    Every folder that holds frames itself is a scene, and so is every video file. Hidden ones are
    left out.
    """
    found = FoundScenes()
    if root.is_file() and root.name.lower().endswith(VIDEO_SUFFIXES):
        _add_videos({"": root}, found, problems)
        return found
    if not root.is_dir():
        scan_with_unusable(root, problems)  # has the words for it
        return found
    tree = _Tree()
    _walk(str(root), "", (), tree, problems)
    if not tree.has_images and not tree.videos:
        problems.add(
            "no frames and no videos in this folder (what is read: "
            f"{', '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))})",
            str(root.absolute()),
        )
        return found
    for folder in tree.empty:
        problems.add(
            "a folder without frames or videos; delete it, or let its name begin with a dot",
            str(root / folder),
        )
    if tree.has_images:
        _add_folders(root, found, problems)
    _add_videos({name: root / name for name in sorted(tree.videos)}, found, problems)
    found.scenes = dict(sorted(found.scenes.items()))
    return found


def pair_scenes(
    roots_gt: Sequence[Path], roots_lq: Sequence[Path], scale: int, problems: Problems
) -> list[ScenePair]:
    """Pairs of the scenes that have the same name below the n-th GT root and the n-th LQ root.

    What is wrong is added to `problems`: besides what `find_scenes` adds, scenes without a partner,
    scenes of unequal length or with other numbers, and sizes that do not agree with `scale`.

    Raises:
        DataError: if there are not as many GT as LQ roots.
    """
    if len(roots_gt) != len(roots_lq) or not roots_gt:
        raise DataError(
            f"dataroot_gt names {len(roots_gt)} folders and dataroot_lq {len(roots_lq)}: each GT "
            "folder needs its LQ folder at the same place of the list"
        )
    pairs: list[ScenePair] = []
    for root_gt, root_lq in zip(roots_gt, roots_lq, strict=True):
        gt, lq = find_scenes(root_gt, problems), find_scenes(root_lq, problems)
        if not (gt.scenes or gt.unusable) or not (lq.scenes or lq.unusable):
            continue
        for side, one, other, root in (("GT", gt, lq, root_lq), ("LQ", lq, gt, root_gt)):
            partner = "LQ" if side == "GT" else "GT"
            for name in sorted(one.scenes.keys() - other.scenes.keys() - other.unusable):
                problems.add(
                    f"{side} scene without {'an' if partner == 'LQ' else 'a'} {partner} scene of "
                    f"the same name in {root}",
                    str(one.scenes[name].path),
                )
        found = [
            ScenePair(scene, lq.scenes[name])
            for name, scene in gt.scenes.items()
            if name in lq.scenes
        ]
        for pair in found:
            _check_pair(pair, scale, problems)
        pairs += found
    return pairs


def _check_pair(pair: ScenePair, scale: int, problems: Problems) -> None:
    gt, lq = pair.gt, pair.lq
    check_sizes(ImagePair(gt.as_image(), lq.as_image()), scale, problems)
    if len(gt) != len(lq):
        problems.add(
            "GT and LQ have not the same number of frames",
            f"{gt.path} has {len(gt)} and {lq.path} has {len(lq)}",
        )
    elif gt.files and lq.files and _number(gt.files[0]) != _number(lq.files[0]):
        problems.add(
            "GT and LQ number their frames differently, so that they may be shifted against each "
            "other",
            f"{gt.path} begins with {gt.files[0]} and {lq.path} with {lq.files[0]}",
        )
    if gt.video and lq.video and gt.video.matrix != lq.video.matrix:
        log.warning(
            "%s and %s do not name the same YCbCr matrix (%d and %d; %d is none, taken as BT.601): "
            "their colours may differ",
            gt.path, lq.path, gt.video.matrix, lq.video.matrix, _UNKNOWN_MATRIX,
        )  # fmt: skip


def _number(name: str) -> int | None:
    """The number at the end of a file's stem."""
    match = _NUMBERED.fullmatch(name.rpartition(".")[0])
    return int(match[2]) if match else None


@dataclass
class _Tree:
    """What lies below a root, as paths relative to it."""

    has_images: bool = False
    videos: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def _walk(
    root: str, below: str, ancestors: tuple[tuple[int, int], ...], tree: _Tree, problems: Problems
) -> None:
    """Note videos and folders in which there is nothing to read, following links but never in a
    circle.
    """
    folder = Path(root, below)
    try:
        status = folder.stat()
        place = (status.st_dev, status.st_ino)
        if place in ancestors:
            return
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
        folders = [entry.name for entry in visible if entry.is_dir()]
    except OSError as error:
        problems.add("a folder cannot be read", f"{folder}: {error.strerror or error}")
        return
    files = [entry.name.lower() for entry in visible if entry.name not in set(folders)]
    images = any(name.endswith(IMAGE_SUFFIXES) for name in files)
    videos = [
        e.name
        for e in visible
        if e.name.lower().endswith(VIDEO_SUFFIXES) and e.name not in set(folders)
    ]
    tree.has_images |= images
    tree.videos += [below + name for name in videos]
    if below and not images and not videos and not folders:
        tree.empty.append(below.rstrip("/"))
    for name in sorted(folders):
        _walk(root, f"{below}{name}/", (*ancestors, place), tree, problems)


def _add_videos(paths: dict[str, Path], found: FoundScenes, problems: Problems) -> None:
    """Take in video files by their name below the root (with suffix; empty for the root itself)."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for (name, path), video in zip(
            paths.items(), pool.map(_try_scan, paths.values()), strict=True
        ):
            stem = name.rpartition(".")[0]
            if isinstance(video, DataError):
                problems.add("unusable video", str(video))
                found.unusable.add(stem)
            else:
                headers = _Repeated(ImageHeader(video.width, video.height, 3, 8), len(video))
                found.add(Scene(path, stem, headers, video=video), problems)


def _try_scan(path: Path) -> Video | DataError:
    try:
        return scan_video(path)
    except DataError as error:
        return error


class _Repeated(Sequence[ImageHeader]):
    """The same header for every frame of a video, in the space of one."""

    def __init__(self, header: ImageHeader, times: int) -> None:
        self._header = header
        self._times = times

    def __len__(self) -> int:
        return self._times

    def __getitem__(self, index: int) -> ImageHeader:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not -self._times <= index < self._times:
            raise IndexError(index)
        return self._header


def _add_folders(root: Path, found: FoundScenes, problems: Problems) -> None:
    images, unusable = scan_with_unusable(root, problems)
    frames: dict[str, list[ScannedImage]] = {}
    for image in images:
        frames.setdefault(image.name.rpartition("/")[0], []).append(image)
    broken: dict[str, list[str]] = {}
    for stem in unusable:
        broken.setdefault(stem.rpartition("/")[0], []).append(stem.rpartition("/")[2])
    for name in sorted(frames.keys() | broken.keys()):
        scene = _make_scene(root / name, name, frames.get(name, []), broken.get(name, []), problems)
        if scene is None:
            found.unusable.add(name)
        else:
            found.add(scene, problems)


def _make_scene(
    path: Path, name: str, images: list[ScannedImage], broken: Sequence[str], problems: Problems
) -> Scene | None:
    """The scene of a folder; None if something is wrong with it."""
    numbered = [(_number(image.name), image.name, image) for image in images]
    unnumbered = [image for number, _, image in numbered if number is None]
    for image in unnumbered:
        problems.add("a frame without a number at the end of its name", str(image.path))
    if unnumbered:
        return None
    ordered = sorted((number or 0, file, image) for number, file, image in numbered)
    images = [image for _, _, image in ordered]
    numbers = [number for number, _, _ in ordered]
    sound = _check_names(path, images, numbers, problems)
    sound &= _check_gaps(path, {*numbers, *(_number(f"{stem}.") or 0 for stem in broken)}, problems)
    sound &= _check_equal_size(images, problems)
    if not sound or broken:
        return None
    return Scene(
        path, name, [image.header for image in images], tuple(image.path.name for image in images)
    )


def _check_names(
    path: Path, images: list[ScannedImage], numbers: list[int], problems: Problems
) -> bool:
    """No number twice, and the same name before the number everywhere: else it is more than one
    scene.
    """
    stems = [image.path.name.rpartition(".")[0] for image in images]
    prefixes = sorted({match[1] for match in map(_NUMBERED.fullmatch, stems) if match})
    if len(prefixes) > 1:
        problems.add(
            "frames of different names in one folder; each scene needs a folder of its own",
            f"{path}: {', '.join(f'{prefix}...' for prefix in prefixes[:_MOST_NUMBERS])}",
        )
        return False
    twice = [place for place in range(1, len(numbers)) if numbers[place] == numbers[place - 1]]
    for place in twice:
        problems.add(
            "two frames of one number in a scene",
            f"{images[place - 1].path} and {images[place].path.name}",
        )
    return not twice


def _check_gaps(path: Path, numbers: set[int], problems: Problems) -> bool:
    missing: list[str] = []
    ordered = sorted(numbers)
    for before, after in pairwise(ordered):
        if after - before > 1:
            missing.append(
                f"{before + 1}" if after - before == 2 else f"{before + 1} to {after - 1}"
            )
    if missing:
        more = (
            f" and {len(missing) - _MOST_NUMBERS} more gaps" if len(missing) > _MOST_NUMBERS else ""
        )
        problems.add(
            "frames are missing in the numbering of a scene; add them, or make two scenes of it",
            f"{path}: {', '.join(missing[:_MOST_NUMBERS])}{more}",
        )
    return not missing


def _check_equal_size(images: list[ScannedImage], problems: Problems) -> bool:
    others = [image for image in images if image.size != images[0].size]
    if others:
        problems.add(
            "the frames of a scene are not equally large",
            f"{others[0].path} is {others[0].size}, {images[0].path} is {images[0].size}"
            + (
                f" ({len(others)} of {len(images)} frames differ from the first)"
                if len(others) > 1
                else ""
            ),
        )
    return not others


def mirrored(number: int, length: int) -> int:
    """A frame's number beyond the ends of a scene of `length` frames, mirrored around the first and
    the last frame.
    """
    if length == 1:
        return 0
    place = number % (2 * length - 2)
    return min(place, 2 * length - 2 - place)


def iterate_numbers(first: int, frames: int, stride: int, length: int) -> Iterator[int]:
    """The numbers of a clip's frames, mirrored at the ends of the scene."""
    return (mirrored(first + stride * k, length) for k in range(frames))
