"""Finding scenes, each a folder of numbered frames or a video file, and pairing those of GT and LQ.

As for images, headers are read only, and everything that is wrong is collected for one error.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from traiNNer.data.name_pairing import pair_names
from traiNNer.data.pairing import ImagePair, check_sizes, require_as_many, say_how
from traiNNer.data.scan import ScannedImage, scan_with_unusable
from traiNNer.data.walk import LeftOut, walk
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import IMAGE_SUFFIXES, ImageHeader
from traiNNer.utils.names import pairing_key
from traiNNer.utils.problems import Problems
from traiNNer.utils.text import plural
from traiNNer.video.files import VIDEO_SUFFIXES, Video, scan_video
from traiNNer.video.scenes import Scene
from traiNNer.video.tags import is_untagged, matrix_name

log = logging.getLogger(__name__)

# Indexing waits for the disk and for FFmpeg, which runs without Python.
_THREADS = 4
# Gaps and names in a message: enough to see a pattern.
_MOST_EXAMPLES = 8
_NUMBERED = re.compile(r"(.*?)([0-9]+)", re.DOTALL)


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


def find_scenes(root: Path, problems: Problems, left_out: LeftOut | None = None) -> FoundScenes:
    """All scenes below a folder, or the scene that a video file is, sorted by name. What is wrong
    goes to `problems`, and what is neither a frame nor a video is counted in `left_out`.

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
    tree = _look_through(root, problems, LeftOut() if left_out is None else left_out)
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
    roots_gt: Sequence[Path],
    roots_lq: Sequence[Path],
    scale: int,
    problems: Problems,
    filename_tmpl: str | None = None,
    left_out: LeftOut | None = None,
) -> list[ScenePair]:
    """Pairs of the scenes whose names below the n-th GT root and the n-th LQ root belong together:
    they are equal, or as `filename_tmpl` says (see `traiNNer/data/name_pairing.py`).

    What is wrong is added to `problems`: besides what `find_scenes` adds, scenes without a partner,
    scenes of unequal length or with other numbers, and sizes that do not agree with `scale`.

    Raises:
        DataError: if there are not as many GT as LQ roots.
    """
    require_as_many(roots_gt, roots_lq)
    pairs: list[ScenePair] = []
    for root_gt, root_lq in zip(roots_gt, roots_lq, strict=True):
        gt = find_scenes(root_gt, problems, left_out)
        lq = find_scenes(root_lq, problems, left_out)
        # With one side empty, every scene of the other would be named for want of a partner.
        if not (gt.scenes or gt.unusable) or not (lq.scenes or lq.unusable):
            continue
        names = _pair_found(gt, lq, filename_tmpl, (root_gt, root_lq), problems)
        for name, partner in names.items():
            if name in gt.scenes and partner in lq.scenes:
                scene = gt.scenes[name]
                pair = ScenePair(scene, _colored_as(lq.scenes[partner], scene))
                _check_pair(pair, scale, problems)
                pairs.append(pair)
    return pairs


def _pair_found(
    gt: FoundScenes,
    lq: FoundScenes,
    filename_tmpl: str | None,
    roots: tuple[Path, Path],
    problems: Problems,
) -> dict[str, str]:
    """Name of GT to name of LQ, the unusable ones too, which are problems already."""
    all_gt = {pairing_key(name): name for name in (*gt.scenes, *gt.unusable)}
    all_lq = {pairing_key(name): name for name in (*lq.scenes, *lq.unusable)}
    # A root that is a scene itself has an empty name: there is nothing to be made of it.
    template = "{}" if "" in all_gt or "" in all_lq else filename_tmpl
    found = pair_names(list(all_gt), list(all_lq), template)
    say_how(found.rule, found.hint, roots, problems)
    names = {all_gt[name]: all_lq[partner] for name, partner in found.pairs.items()}
    partner = "an LQ scene of the same name" if filename_tmpl is None else f"'{filename_tmpl}'"
    for name in sorted(gt.scenes.keys() - names.keys()):
        problems.add(f"GT scene without {partner} in {roots[1]}", str(gt.scenes[name].path))
    for name in sorted(lq.scenes.keys() - set(names.values())):
        kind = f"LQ scene without a GT scene of the same name in {roots[0]}"
        problems.add(kind, str(lq.scenes[name].path))
    return names


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
    if gt.video and lq.video and gt.video.colors.matrix != lq.video.colors.matrix:
        log.warning(
            "%s and %s are not coded by the same colour matrix (%s and %s): their colours may "
            "differ",
            gt.path,
            lq.path,
            matrix_name(gt.video.colors.matrix),
            matrix_name(lq.video.colors.matrix),
        )


def _colored_as(lq: Scene, gt: Scene) -> Scene:
    """LQ whose colours are taken for what those of its GT are, where neither names its matrix: what
    makes a small video of a large one keeps the numbers, and does not look at the size.
    """
    if lq.video is None or gt.video is None:
        return lq
    if not (is_untagged(lq.video.matrix) and is_untagged(gt.video.matrix)):
        return lq
    colors = replace(lq.video.colors, matrix=gt.video.colors.matrix)
    return replace(lq, video=replace(lq.video, colors=colors))


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


def _look_through(root: Path, problems: Problems, left_out: LeftOut) -> _Tree:
    """Note videos and folders in which there is nothing to read."""
    tree = _Tree()
    for folder in walk(root, problems, left_out):
        names = [entry.name for entry in folder.files]
        images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
        videos = [name for name in names if name.lower().endswith(VIDEO_SUFFIXES)]
        for name in names:
            if name not in images and name not in videos:
                left_out.add(name)
        tree.has_images |= bool(images)
        tree.videos += [folder.below + name for name in videos]
        if folder.below and not images and not videos and not folder.folders:
            tree.empty.append(folder.below.rstrip("/"))
    return tree


def _add_videos(paths: dict[str, Path], scenes: FoundScenes, problems: Problems) -> None:
    """Take in video files by their name below the root (with suffix; empty for the root itself)."""
    remarks: dict[str, list[str]] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        videos = pool.map(_try_scan, paths.values())
        for (name, path), video in zip(paths.items(), videos, strict=True):
            stem = name.rpartition(".")[0]
            if isinstance(video, DataError):
                problems.add("unusable video", str(video))
                scenes.unusable.add(stem)
            else:
                for remark in video.remarks:
                    remarks.setdefault(remark, []).append(str(path))
                # As the reader gives them: three channels of 8 bits, whatever the file has.
                headers = _Repeated(ImageHeader(video.width, video.height, 3, 8), len(video))
                scenes.add(Scene(path, stem, headers, video=video), problems)
    for remark, affected in remarks.items():
        others = len(affected) - _MOST_EXAMPLES
        more = f" and {others} more" if others > 0 else ""
        log.warning(
            "%s %s: %s%s",
            plural(len(affected), "video"), remark, ", ".join(affected[:_MOST_EXAMPLES]), more,
        )  # fmt: skip


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
