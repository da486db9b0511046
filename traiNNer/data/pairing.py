"""Pairing the images of GT and LQ folders. As in `traiNNer/data/scan.py`, all that is wrong is one
error.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from traiNNer.data.name_pairing import pair_names
from traiNNer.data.scan import (
    OF_SINGLE_FILES,
    ScannedImage,
    scan_with_unusable,
    without_collection,
)
from traiNNer.data.walk import LeftOut
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import ImageHeader
from traiNNer.utils.names import pairing_key
from traiNNer.utils.problems import Problems

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImagePair:
    """A GT image and the LQ image of the same stem."""

    gt: ScannedImage
    lq: ScannedImage

    @property
    def images(self) -> tuple[ScannedImage, ...]:
        """Both files."""
        return self.gt, self.lq


@without_collection()
def pair_folders(
    roots_gt: Sequence[Path],
    roots_lq: Sequence[Path],
    scale: int,
    filename_tmpl: str | None = None,
    *,
    left_out: LeftOut | None = None,
    unusable: Problems | None = None,
) -> list[ImagePair]:
    """Pairs of the images whose names below the n-th GT folder and the n-th LQ folder belong
    together (see `traiNNer/data/name_pairing.py`), in order.

    Args:
        roots_gt: folders of GT.
        roots_lq: as many folders of LQ.
        scale: how many times larger GT is, per side.
        filename_tmpl: LQ's name with `{}` for that of GT, both without suffix.
        left_out: counts the files that are no images.
        unusable: gets the single files that cannot be used, where there are pairs without them;
            None makes an error of them.

    Raises:
        DataError: naming every missing or empty folder, unusable image, image without partner,
            ambiguous name and pair whose sizes do not agree with `scale`.
    """
    require_as_many(roots_gt, roots_lq)
    problems = Problems()
    left_out = left_out or LeftOut()
    pairs: list[ImagePair] = []
    for root_gt, root_lq in zip(roots_gt, roots_lq, strict=True):
        pairs += _pair_roots(root_gt, root_lq, filename_tmpl, problems, left_out)
    for pair in pairs:
        check_sizes(pair, scale, problems)
    if unusable is not None and pairs:
        problems.move(OF_SINGLE_FILES, unusable)
    problems.raise_if_any()
    return pairs


def require_as_many(roots_gt: Sequence[Path], roots_lq: Sequence[Path]) -> None:
    """Check that each GT folder has its LQ folder.

    Raises:
        DataError: if there are more of one, or none.
    """
    if len(roots_gt) != len(roots_lq) or not roots_gt:
        raise DataError(
            f"dataroot_gt names {len(roots_gt)} folders and dataroot_lq {len(roots_lq)}: each GT "
            "folder needs its LQ folder at the same place of the list"
        )


def _pair_roots(
    root_gt: Path,
    root_lq: Path,
    filename_tmpl: str | None,
    problems: Problems,
    left_out: LeftOut,
) -> list[ImagePair]:
    """The pairs of one GT folder and its LQ folder."""
    images_gt, unusable_gt = scan_with_unusable(root_gt, problems, left_out=left_out)
    images_lq, unusable_lq = scan_with_unusable(root_lq, problems, left_out=left_out)
    gt = _by_name(images_gt, problems)
    lq = _by_name(images_lq, problems)
    # An empty folder is a problem already; every image of the other one would be a second.
    if not gt or not lq:
        return []
    broken_gt = {pairing_key(stem) for stem in unusable_gt}
    broken_lq = {pairing_key(stem) for stem in unusable_lq}
    # The unusable ones too, so that their partners are not called images without a partner.
    found = pair_names([*gt, *broken_gt - gt.keys()], [*lq, *broken_lq - lq.keys()], filename_tmpl)
    say_how(found.rule, found.hint, (root_gt, root_lq), problems)
    partner = "an LQ image of the same name" if filename_tmpl is None else f"'{filename_tmpl}'"
    for name in sorted(gt.keys() - found.pairs.keys()):
        problems.add(f"GT without {partner} in {root_lq}", str(gt[name].path))
    for name in sorted(lq.keys() - set(found.pairs.values())):
        kind = f"LQ without a GT image of the same name in {root_gt}"
        problems.add(kind, str(lq[name].path))
    return [
        ImagePair(gt[name], lq[other])
        for name, other in found.pairs.items()
        if name in gt and other in lq
    ]


def say_how(rule: str, hint: str, roots: tuple[Path, Path], problems: Problems) -> None:
    """Say by which rule names were paired, or what could be done where they were not."""
    root_gt, root_lq = roots
    if rule:
        log.info("%s and %s: %s", root_gt, root_lq, rule)
    if hint:
        problems.add(
            f"{hint}; if LQ's names are made of GT's, say how, for example filename_tmpl: '{{}}x4'",
            f"{root_gt} and {root_lq}",
        )


def _by_name(images: list[ScannedImage], problems: Problems) -> dict[str, ScannedImage]:
    """The images by what they are paired by."""
    by_name: dict[str, ScannedImage] = {}
    for image in images:
        key = pairing_key(image.stem)
        if key in by_name:
            kind = "two images of one name in a folder; remove one"
            problems.add(kind, f"{by_name[key].path} and {image.name}")
        by_name[key] = image
    return by_name


def check_sizes(pair: ImagePair, scale: int, problems: Problems) -> None:
    """Add a pair to `problems` if GT is not `scale` times as large as LQ, with the likely cause."""
    gt = pair.gt.header
    lq = pair.lq.header
    if gt.width == scale * lq.width and gt.height == scale * lq.height:
        return
    remedy = ""
    cause = _size_mismatch(gt, lq, scale)
    if cause.startswith("a few pixels"):
        width = min(lq.width, gt.width // scale)
        height = min(lq.height, gt.height // scale)
        remedy = f"; crop GT to {width * scale}x{height * scale}"
        if (width, height) != (lq.width, lq.height):
            remedy += f" and LQ to {width}x{height}"
    problems.add(
        f"GT is not {scale} x LQ: {cause}",
        f"{pair.gt.path} is {pair.gt.size}, {pair.lq.path} is {pair.lq.size}{remedy}",
    )


def _size_mismatch(gt: ImageHeader, lq: ImageHeader, scale: int) -> str:
    """The likely cause that the sizes do not agree with the scale."""
    if (gt.width, gt.height) == (lq.width, lq.height):
        return "they have the same size; was the same folder given twice, or should scale be 1?"
    if lq.width >= gt.width and lq.height >= gt.height:
        return "LQ is larger than GT; are dataroot_gt and dataroot_lq swapped?"
    ratio = gt.width // lq.width
    if ratio != scale and (gt.width, gt.height) == (ratio * lq.width, ratio * lq.height):
        return f"it looks like scale {ratio}"
    if (gt.height, gt.width) == (scale * lq.width, scale * lq.height):
        return "one of them lies on its side (rotated by 90 degrees)"
    # Less than two LQ pixels: more than rounding of the sides and of a border can explain.
    width_off = abs(gt.width - scale * lq.width)
    height_off = abs(gt.height - scale * lq.height)
    if max(width_off, height_off) < 2 * scale:
        return f"a few pixels are off; crop to a multiple of {scale}"
    return "are these different pictures?"
