"""Finding scenes, each a folder of numbered frames or a video file, and pairing those of GT and LQ.

As for images, headers are read only, and everything that is wrong is collected for one error.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from traiNNer.data.scan import ImagePair, Problems, ScannedImage, check_sizes, scan_with_unusable
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import IMAGE_SUFFIXES, ImageHeader
from traiNNer.video.files import VIDEO_SUFFIXES, Video, scan_video
from traiNNer.video.scenes import Scene

log = logging.getLogger(__name__)

# Indexing waits for the disk and for FFmpeg, which runs without Python.
_THREADS = 4
# Gaps and names in a message: enough to see a pattern.
_MOST_EXAMPLES = 8
_NUMBERED = re.compile(r"(.*?)([0-9]+)", re.DOTALL)
# Unspecified, in the numbering of ISO/IEC 23091-2.
_UNKNOWN_MATRIX = 2


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
    result = FoundScenes()
    if root.is_file() and root.name.lower().endswith(VIDEO_SUFFIXES):
        _add_videos({"": root}, result, problems)
        return result
    if not root.is_dir():
        scan_with_unusable(root, problems)  # has the words for it
        return result
    tree = _Tree()
    _walk(str(root), "", (), tree, problems)
    if not tree.has_images and not tree.videos:
        problems.add(
            "no frames and no videos in this folder (what is read: "
            f"{', '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))})",
            str(root.absolute()),
        )
        return result
    # Likely a scene whose frames were lost, so it is not passed over.
    for folder in tree.empty:
        problems.add(
            "a folder without frames or videos; delete it, or let its name begin with a dot",
            str(root / folder),
        )
    # Not for videos alone: the scan of images would miss them and call that a problem.
    if tree.has_images:
        _add_folders(root, result, problems)
    _add_videos({name: root / name for name in sorted(tree.videos)}, result, problems)
    # Folders and files of one root in one order, whatever the disk's is.
    result.scenes = dict(sorted(result.scenes.items()))
    return result


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
        gt = find_scenes(root_gt, problems)
        lq = find_scenes(root_lq, problems)
        # With one side empty, every scene of the other would be named for want of a partner.
        if not (gt.scenes or gt.unusable) or not (lq.scenes or lq.unusable):
            continue
        for name in _without_partner(gt, lq):
            kind = f"GT scene without an LQ scene of the same name in {root_lq}"
            problems.add(kind, str(gt.scenes[name].path))
        for name in _without_partner(lq, gt):
            kind = f"LQ scene without a GT scene of the same name in {root_gt}"
            problems.add(kind, str(lq.scenes[name].path))
        for name, scene in gt.scenes.items():
            if name in lq.scenes:
                pair = ScenePair(scene, lq.scenes[name])
                _check_pair(pair, scale, problems)
                pairs.append(pair)
    return pairs


def _without_partner(one: FoundScenes, other: FoundScenes) -> list[str]:
    """Scenes that the other side lacks; one that is there and unusable is a problem already."""
    return sorted(one.scenes.keys() - other.scenes.keys() - other.unusable)


def _check_pair(pair: ScenePair, scale: int, problems: Problems) -> None:
    gt = pair.gt
    lq = pair.lq
    check_sizes(ImagePair(_as_image(gt), _as_image(lq)), scale, problems)
    if len(gt) != len(lq):
        problems.add(
            "GT and LQ do not have the same number of frames",
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


def _as_image(scene: Scene) -> ScannedImage:
    """A scene as if it were one picture, for messages about its size."""
    return ScannedImage(scene.path.parent, scene.path.name, scene.header)


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
    # A folder may be called clip.mp4.
    files = {entry.name for entry in visible}.difference(folders)
    images = any(name.lower().endswith(IMAGE_SUFFIXES) for name in files)
    videos = [name for name in files if name.lower().endswith(VIDEO_SUFFIXES)]
    tree.has_images |= images
    tree.videos += [below + name for name in videos]
    if below and not images and not videos and not folders:
        tree.empty.append(below.rstrip("/"))
    for name in sorted(folders):
        _walk(root, f"{below}{name}/", (*ancestors, place), tree, problems)


def _add_videos(paths: dict[str, Path], scenes: FoundScenes, problems: Problems) -> None:
    """Take in video files by their name below the root (with suffix; empty for the root itself)."""
    with ThreadPoolExecutor(_THREADS) as pool:
        videos = pool.map(_try_scan, paths.values())
        for (name, path), video in zip(paths.items(), videos, strict=True):
            stem = name.rpartition(".")[0]
            if isinstance(video, DataError):
                problems.add("unusable video", str(video))
                scenes.unusable.add(stem)
            else:
                # As the reader gives them: three channels of 8 bits, whatever the file has.
                headers = _Repeated(ImageHeader(video.width, video.height, 3, 8), len(video))
                scenes.add(Scene(path, stem, headers, video=video), problems)


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

    # Slices, which a sequence has too, are of no use here.
    def __getitem__(self, index: int) -> ImageHeader:  # pyright: ignore
        if not -self._times <= index < self._times:
            raise IndexError(index)
        return self._header


def _add_folders(root: Path, scenes: FoundScenes, problems: Problems) -> None:
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
            scenes.unusable.add(name)
        else:
            scenes.add(scene, problems)


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
    # By number and not by name: 10.png follows 9.png.
    ordered = sorted((number or 0, file, image) for number, file, image in numbered)
    images = [image for _, _, image in ordered]
    numbers = [number for number, _, _ in ordered]
    # All checks are made, so that one run names everything.
    sound = _check_names(path, images, numbers, problems)
    # A frame that is broken is no gap: it has been named already.
    present = {*numbers, *(_number(f"{stem}.") or 0 for stem in broken)}
    sound &= _check_gaps(path, present, problems)
    sound &= _check_equal_size(images, problems)
    if not sound or broken:
        return None
    return Scene(
        path, name, [image.header for image in images], tuple(image.path.name for image in images)
    )


def _check_names(
    path: Path, images: list[ScannedImage], numbers: list[int], problems: Problems
) -> bool:
    """Each number once, and the same name before the number everywhere: else it is more than one
    scene.
    """
    stems = [image.path.name.rpartition(".")[0] for image in images]
    prefixes = sorted({match[1] for match in map(_NUMBERED.fullmatch, stems) if match})
    if len(prefixes) > 1:
        problems.add(
            "frames of different names in one folder; each scene needs a folder of its own",
            f"{path}: {', '.join(f'{prefix}...' for prefix in prefixes[:_MOST_EXAMPLES])}",
        )
        return False
    repeats = [place for place in range(1, len(numbers)) if numbers[place] == numbers[place - 1]]
    for place in repeats:
        problems.add(
            "two frames of one number in a scene",
            f"{images[place - 1].path} and {images[place].path.name}",
        )
    return not repeats


def _check_gaps(path: Path, numbers: set[int], problems: Problems) -> bool:
    gaps: list[str] = []
    for before, after in pairwise(sorted(numbers)):
        if after - before == 2:
            gaps.append(f"{before + 1}")
        elif after - before > 2:
            gaps.append(f"{before + 1} to {after - 1}")
    if gaps:
        others = len(gaps) - _MOST_EXAMPLES
        more = f" and {others} more gaps" if others > 0 else ""
        problems.add(
            "frames are missing in the numbering of a scene; add them, or make two scenes of it",
            f"{path}: {', '.join(gaps[:_MOST_EXAMPLES])}{more}",
        )
    return not gaps


def _check_equal_size(images: list[ScannedImage], problems: Problems) -> bool:
    others = [image for image in images if image.size != images[0].size]
    if others:
        count = ""
        if len(others) > 1:
            count = f" ({len(others)} of {len(images)} frames differ from the first)"
        problems.add(
            "the frames of a scene are not equally large",
            f"{others[0].path} is {others[0].size}, {images[0].path} is {images[0].size}{count}",
        )
    return not others
