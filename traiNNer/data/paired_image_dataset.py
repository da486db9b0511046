"""Pairs of GT and LQ images from folders."""

from __future__ import annotations

import logging

from torch.utils.data import Dataset

from traiNNer.data.crop import SmallImages, cut, draw_plan, pad_to
from traiNNer.data.describe import count, describe_kinds, describe_sizes
from traiNNer.data.sample import Sample, SampleRequest
from traiNNer.data.scan import ImagePair, Problems, as_roots, pair_folders
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import image_to_tensor, read_image
from traiNNer.utils.registry import DATASETS

log = logging.getLogger(__name__)


@DATASETS.register("PairedImageDataset")
class PairedImageDataset(Dataset[Sample]):
    """GT and LQ images of equal names, GT exactly `scale` times as large.

    Every pair is checked from its headers when the dataset is made. An element is asked for by a `SampleRequest`.

    Args:
        scale: how many times larger GT is than LQ, per side.
        dataroot_gt: folder of the GT images, with all of its sub-folders; or a list of such folders.
        dataroot_lq: folder of the LQ images of the same names; for a list of GT folders, as many in the same order.
        use_hflip: exchange left and right of half of the training crops.
        use_rot: turn training crops by multiples of 90 degrees (by exchanging up and down, and rows and columns).
        small_images: images smaller than the patch; error lists them, skip leaves them out, pad mirrors their edges.

    Raises:
        DataError: listing all that is wrong with the folders and images.
    """

    def __init__(
        self,
        scale: int,
        dataroot_gt: str | list[str],
        dataroot_lq: str | list[str],
        use_hflip: bool = True,
        use_rot: bool = True,
        small_images: SmallImages = "error",
    ) -> None:
        self.scale = scale
        self.use_hflip = use_hflip
        self.use_rot = use_rot
        self.small_images: SmallImages = small_images
        self._all_pairs = pair_folders(as_roots(dataroot_gt), as_roots(dataroot_lq), scale)
        self._pairs = self._all_pairs

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def pairs(self) -> list[ImagePair]:
        """What is read: all pairs but those that are left out as too small."""
        return self._pairs

    @property
    def smallest_side(self) -> int:
        """The shortest side of any LQ image, in pixels: the largest crop that every image has."""
        return min(_side(pair) for pair in self._pairs)

    def __getitem__(self, index: SampleRequest) -> Sample:
        """Read the pair of a request: lq (3, h, w) and gt (3, h * scale, w * scale), uint8 or float32 in [0, 1].

        Raises:
            DataError: if a file cannot be read, has changed since it was checked, or is smaller than the crop.
        """
        pair = self._pairs[index.index]
        lq, gt = read_image(pair.lq.path), read_image(pair.gt.path)
        if gt.shape[:2] != (lq.shape[0] * self.scale, lq.shape[1] * self.scale):
            raise DataError(
                f"{pair.gt.path} is {gt.shape[1]}x{gt.shape[0]} and {pair.lq.path} is {lq.shape[1]}x{lq.shape[0]}: not "
                f"{self.scale} times as large any more; were the files changed while the program runs?"
            )
        if index.lq_size is not None:
            if self.small_images == "pad":
                lq, gt = pad_to(lq, index.lq_size), pad_to(gt, index.lq_size * self.scale)
            if min(lq.shape[:2]) < index.lq_size:
                raise _too_small([pair], index.lq_size)
            plan = draw_plan(index.seed, self.use_hflip, self.use_rot)
            lq, gt = cut(lq, plan, index.lq_size, 1), cut(gt, plan, index.lq_size, self.scale)
        return Sample(image_to_tensor(lq), image_to_tensor(gt), index.index, str(pair.lq.path), str(pair.gt.path))

    def require_lq_size(self, lq_size: int) -> None:
        """Prepare for training with crops of up to `lq_size` pixels: apply `small_images`.

        Call it before the dataset goes to a loader; its length may change. Reading whole images does not need it.

        Raises:
            DataError: if images are smaller and the policy is error, or if skipping leaves nothing.
        """
        small = [pair for pair in self._all_pairs if _side(pair) < lq_size]
        self._pairs = self._all_pairs
        if not small:
            return
        if self.small_images == "error":
            raise _too_small(small, lq_size)
        if self.small_images == "pad":
            log.info("%s smaller than the patch of %d: their edges are mirrored", count(len(small), "pair"), lq_size)
            return
        if len(small) == len(self._all_pairs):
            raise DataError(
                f"all {len(small)} LQ images are smaller than the patch of {lq_size}x{lq_size} (lq_size), and "
                f"small_images: skip leaves none; choose lq_size {max(map(_side, small))} or less, or small_images: pad"
            )
        self._pairs = [pair for pair in self._all_pairs if _side(pair) >= lq_size]
        log.info("%s left out: smaller than the patch of %d", count(len(small), "pair"), lq_size)

    def summary(self) -> str:
        """One line: how many pairs, their sizes, what is unusual."""
        kinds = describe_kinds([(pair.gt.header, pair.lq.header) for pair in self._pairs])
        left_out = len(self._all_pairs) - len(self._pairs)
        parts = [count(len(self), "pair"), f"GT {describe_sizes(pair.gt.header for pair in self._pairs)}", *kinds]
        return ", ".join(parts + ([f"{left_out} left out (smaller than the patch)"] if left_out else []))


def _side(pair: ImagePair) -> int:
    return min(pair.lq.header.width, pair.lq.header.height)


def _too_small(pairs: list[ImagePair], lq_size: int) -> DataError:
    """Naming the files and the levers."""
    problems = Problems()
    kind = (
        f"LQ image smaller than the patch of {lq_size}x{lq_size} (lq_size); choose lq_size {min(map(_side, pairs))} or "
        "less, or set small_images: skip (leave them out) or pad (mirror their edges) in the dataset's section"
    )
    for pair in pairs:
        problems.add(kind, f"{pair.lq.path} is {pair.lq.size}")
    return problems.error()
