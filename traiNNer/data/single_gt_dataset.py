"""GT alone: LQ is made of it while reading."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from traiNNer.data.crop import SmallImages
from traiNNer.data.degraded import DegradedDataset
from traiNNer.data.describe import describe_kinds, describe_sizes
from traiNNer.data.pairing import pair_folders
from traiNNer.data.pixel_source import IMAGE_FILES, ImagesOfStore, PixelSource, top_of
from traiNNer.data.sample import Sample, SampleRequest
from traiNNer.data.scan import (
    OF_SINGLE_FILES,
    ScannedImage,
    as_roots,
    scan_into,
    without_repeats,
)
from traiNNer.data.walk import LeftOut
from traiNNer.ops.degradations.base import Share
from traiNNer.ops.resize import ResizeMode
from traiNNer.options.degradations import Steps
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import Pixels
from traiNNer.utils.problems import Problems
from traiNNer.utils.registry import DATASETS
from traiNNer.utils.seeds import hash_seed
from traiNNer.utils.text import plural


@DATASETS.register(
    "SingleGtDataset", aliases=("GtImageDataset", "RealESRGANDataset", "RealESRGANPairedDataset")
)
class SingleGtDataset(DegradedDataset[ScannedImage], ImagesOfStore, Dataset[Sample]):
    """GT images, of which LQ is made: by shrinking them, which gives the same pixels that
    scripts/data_preparation/make_lq.py would write, or by a recipe of degradations. Sides that are
    no multiple of the scale are cut off at the right and below.

    Args:
        scale: how many times larger GT is than LQ, per side.
        dataroot_gt: folder of the GT images, with all of its sub-folders; or a list of such
            folders.
        degradations: the recipe that makes LQ, a list of steps or a recipe's name; null shrinks.
        lq_resize_mode: the kernel that shrinks; with degradations at the end, where none of them
            does.
        dataroot_lq: folder of LQ images with the names of GT's, which some of the samples take in
            place of LQ that is made; or as many such folders as of GT.
        dataroot_lq_prob: the share of the training samples that do.
        use_hflip: exchange left and right of half of the training crops.
        use_rot: turn training crops by multiples of 90 degrees (by exchanging up and down, and rows
            and columns).
        small_images: images smaller than the patch; error lists them, skip leaves them out, pad
            mirrors their edges.
        source: where pixels come from; for programs, it is no option.
        unusable: gets the images that cannot be used, where there are others; None makes an error
            of them. For programs, it is no option.

    Raises:
        DataError: listing all that is wrong with the folders and images.
    """

    # No clips: see `EvalSet.target`.
    target = None
    noun = "image"

    def __init__(  # noqa: PLR0913 (its signature is the schema of its options)
        self,
        scale: int,
        dataroot_gt: str | list[str],
        degradations: Steps | None = None,
        lq_resize_mode: ResizeMode = "bicubic",
        dataroot_lq: str | list[str] | None = None,
        dataroot_lq_prob: Share = 0.0,
        use_hflip: bool = True,
        use_rot: bool = True,
        small_images: SmallImages = "error",
        source: PixelSource = IMAGE_FILES,
        unusable: Problems | None = None,
    ) -> None:
        self.scale = scale
        self.degrade_by(degradations, lq_resize_mode)
        self.source = source
        self.use_hflip = use_hflip
        self.use_rot = use_rot
        self.small_images: SmallImages = small_images
        self._other_files = LeftOut()
        problems = Problems()
        images: list[ScannedImage] = []
        roots = as_roots(dataroot_gt)
        if not roots:
            raise DataError("dataroot_gt is an empty list; name a folder")
        for root in without_repeats(roots):
            images += scan_into(root, problems, self._other_files)
        if unusable is not None and images:
            problems.move(OF_SINGLE_FILES, unusable)
        for image in images:
            if min(image.header.height, image.header.width) < scale:
                kind = f"image smaller than {scale}x{scale} pixels, of which no LQ can be made"
                problems.add(kind, f"{image.path} is {image.size}")
        problems.raise_if_any()
        self._real_share = dataroot_lq_prob
        self._real: dict[Path, ScannedImage] = {}
        if dataroot_lq is not None:
            pairs = pair_folders(roots, as_roots(dataroot_lq), scale)
            self._real = {pair.gt.path: pair.lq for pair in pairs}
        elif dataroot_lq_prob > 0:
            raise DataError("dataroot_lq_prob is above 0, and dataroot_lq names no folder")
        self.use_elements(images)

    @property
    def target_of_clips(self) -> None:
        """There are no clips."""
        return

    @property
    def lq_paths(self) -> list[str]:
        """The GT file of each, of which LQ is made."""
        return [str(image.path) for image in self.elements]

    def lq_extent(self, element: ScannedImage) -> tuple[int, int]:
        """Height and width of the LQ image in pixels, from GT's header."""
        return element.header.height // self.scale, element.header.width // self.scale

    def name_paths(self, element: ScannedImage) -> tuple[str, str]:
        """GT's file, twice."""
        return str(element.path), str(element.path)

    def real_lq(self, element: ScannedImage, request: SampleRequest) -> Pixels | None:
        """LQ (h, w, 3) from the disk, where the seed of a training sample takes that."""
        if request.lq_size is None or not self._real:
            return None
        drawn = random.Random(hash_seed(request.seed, 6)).random()  # noqa: S311 - no cryptography
        return self.source.read(self._real[element.path]) if drawn < self._real_share else None

    def read_gt(self, element: ScannedImage) -> list[Pixels]:
        """The picture (H, W, 3), uint8 or uint16, as the one frame of a list.

        Raises:
            DataError: if the file cannot be read, or has changed since it was checked.
        """
        gt = self.source.read(element)
        header = element.header
        if gt.shape[:2] != (header.height, header.width):
            raise DataError(
                f"{element.path} is {gt.shape[1]}x{gt.shape[0]} and was {element.size}; was the "
                "file changed while the program runs?"
            )
        return [gt]

    def scanned_images(self) -> Iterator[ScannedImage]:
        """Every image that is read: GT, and LQ from the disk."""
        yield from super().scanned_images()
        yield from self._real.values()

    def read_gt_top(self, element: ScannedImage, rows: int) -> list[Pixels]:
        """The picture, of which the first `rows` at least are decoded.

        Raises:
            DataError: as `read_gt`.
        """
        header = element.header
        if rows >= header.height:
            return self.read_gt(element)
        top = top_of(self.source, element, rows)
        if top.shape == (header.height, header.width, 3):
            return [top]
        if top.shape != (rows, header.width, 3):
            # The file has changed, and reading it whole says so.
            return self.read_gt(element)
        # Rows that nobody reads take no memory.
        whole = np.empty((header.height, header.width, 3), top.dtype)
        whole[:rows] = top
        return [whole]

    def for_validation(self) -> SingleGtDataset:
        """Itself: whole images are what is judged."""
        return self

    def require_gt_side(self, side: int, what: str) -> None:
        """Refuse images that are too small for `what`, whose sides have to be at least `side`
        pixels.

        Raises:
            DataError: naming them.
        """
        problems = Problems()
        for image in self.elements:
            if min(self.lq_extent(image)) * self.scale < side:
                problems.add(
                    f"GT image smaller than the {side}x{side} pixels that {what} needs",
                    f"{image.path} is {image.size}",
                )
        problems.raise_if_any()

    def summary(self) -> str:
        """One line: how many images, their sizes, what is unusual."""
        headers = [image.header for image in self.elements]
        parts = [
            f"{plural(len(self), 'GT image')}, LQ made of {'it' if len(self) == 1 else 'them'}",
            f"{describe_sizes(headers)}, {'degraded' if self.is_degraded else self.mode}",
            *describe_kinds([(header,) for header in headers]),
        ]
        if self._real:
            parts.append(f"{100 * self._real_share:.0f} % of the samples with LQ from the disk")
        if self.left_out:
            parts.append(f"{self.left_out} left out (smaller than the patch)")
        parts += self._other_files.describe()
        return ", ".join(parts)
