"""GT alone: LQ is made of it while reading."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from traiNNer.data.crop import Placement, SmallImages, oriented, pad_to
from traiNNer.data.degrading import DegradationRecipe, Done
from traiNNer.data.describe import describe_kinds, describe_sizes
from traiNNer.data.dynamic_mixins import PairedImageDatasetDynamicMixin
from traiNNer.data.pixel_source import IMAGE_FILES, PixelSource
from traiNNer.data.sample import Sample, SampleRequest
from traiNNer.data.scan import (
    OF_SINGLE_FILES,
    ScannedImage,
    as_roots,
    scan_into,
    without_repeats,
)
from traiNNer.data.shrinking import shrink
from traiNNer.data.walk import LeftOut
from traiNNer.ops.resize import ResizeMode
from traiNNer.options.degradations import Steps
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import Pixels, image_to_tensor
from traiNNer.utils.problems import Problems
from traiNNer.utils.registry import DATASETS
from traiNNer.utils.seeds import hash_seed
from traiNNer.utils.text import plural

# LQ pixels around a crop that its edge is made of too. The widest kernel that shrinks, lanczos,
# reaches three; degradations reach further, to the end of a square of JPEG and a half of the next.
_SHRINKING_MARGIN = 4
_DEGRADING_MARGIN = 12
# Further pixels above and at the left, 0 to 7, drawn: the squares of codecs begin at the corner of
# the piece that is degraded, and so anywhere in a crop.
_PHASES = 8


@DATASETS.register("SingleGtDataset", aliases=("GtImageDataset",))
class SingleGtDataset(PairedImageDatasetDynamicMixin[ScannedImage], Dataset[Sample]):
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
        use_hflip: bool = True,
        use_rot: bool = True,
        small_images: SmallImages = "error",
        source: PixelSource = IMAGE_FILES,
        unusable: Problems | None = None,
    ) -> None:
        self.scale = scale
        self.mode: ResizeMode = lq_resize_mode
        self._recipe: DegradationRecipe | None = None
        if degradations is not None:
            self._recipe = DegradationRecipe(degradations, scale, lq_resize_mode)
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
        self.use_elements(images)

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

    def read_pair(self, element: ScannedImage) -> tuple[Pixels, Pixels]:
        """The whole of LQ (h, w, 3) and GT (h * scale, w * scale, 3), uint8 or uint16.

        Raises:
            DataError: if the file cannot be read, or has changed since it was checked.
        """
        gt = self._read_gt(element)
        return self._make_lq(element, gt, 0)[0], gt

    def read_with_history(self, request: SampleRequest) -> tuple[Tensor, Tensor, list[Done]]:
        """LQ (3, h, w) and GT (3, h * scale, w * scale) of a request, and what was done to LQ."""
        lq, gt, _, done = self._read_all(self.elements[request.index], request)
        return lq, gt, done

    def _read(
        self, element: ScannedImage, request: SampleRequest
    ) -> tuple[Tensor, Tensor, Placement]:
        lq, gt, placement, _ = self._read_all(element, request)
        return lq, gt, placement

    def _read_all(
        self, element: ScannedImage, request: SampleRequest
    ) -> tuple[Tensor, Tensor, Placement, list[Done]]:
        gt = self._read_gt(element)
        placement = self._place(element, self.lq_extent(element), request)
        size = request.lq_size
        if size is None:
            # Whole pictures are judged: each is degraded in the same way every time.
            lq, done = self._make_lq(element, gt, hash_seed(0, request.index))
            return image_to_tensor(lq), image_to_tensor(gt), placement, done
        # Flipped first: what degrades, a grid of squares or lines, lies over LQ as it is learnt.
        gt = oriented(pad_to(gt, size * self.scale), placement.plan)
        top, left = placement.oriented_corner(size)
        rows, row = self._around(top, size, hash_seed(request.seed, 2))
        columns, column = self._around(left, size, hash_seed(request.seed, 3))
        # Only what the crop is made of is read, and not the whole image.
        around, done = self._make_lq(element, gt[rows, columns], hash_seed(request.seed, 4))
        lq = around[row : row + size, column : column + size]
        top, left, side = (place * self.scale for place in (top, left, size))
        cropped = gt[top : top + side, left : left + side]
        return image_to_tensor(lq), image_to_tensor(cropped), placement, done

    def _around(self, first: int, size: int, seed: int) -> tuple[slice, int]:
        """Pixels of GT that LQ of `size` pixels from `first` on is made of, along one side; and how
        many pixels of their LQ come before it.
        """
        margin = _SHRINKING_MARGIN if self._recipe is None else _DEGRADING_MARGIN
        before = margin if self._recipe is None else margin + seed % _PHASES
        begin = max(0, first - before)
        end = first + size + margin
        return slice(begin * self.scale, end * self.scale), first - begin

    def _make_lq(self, element: ScannedImage, gt: Pixels, seed: int) -> tuple[Pixels, list[Done]]:
        """LQ (h, w, 3) of a piece of GT, and what was done."""
        if self._recipe is None:
            return shrink(gt, self.scale, self.mode), []
        pixels = gt.astype(np.float32) / np.float32(np.iinfo(gt.dtype).max)
        try:
            lq, done = self._recipe(pixels[None], seed)
        except DataError as error:
            raise DataError(f"{element.path}: {error}") from error
        return lq[0], done

    def _read_gt(self, element: ScannedImage) -> Pixels:
        gt = self.source.read(element)
        header = element.header
        if gt.shape[:2] != (header.height, header.width):
            raise DataError(
                f"{element.path} is {gt.shape[1]}x{gt.shape[0]} and was {element.size}; was the "
                "file changed while the program runs?"
            )
        height, width = self.lq_extent(element)
        return gt[: height * self.scale, : width * self.scale]

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
            f"{describe_sizes(headers)}, {self.mode if self._recipe is None else 'degraded'}",
            *describe_kinds([(header,) for header in headers]),
        ]
        if self.left_out:
            parts.append(f"{self.left_out} left out (smaller than the patch)")
        parts += self._other_files.describe()
        return ", ".join(parts)
