"""Pairs of GT and LQ images from folders."""

from __future__ import annotations

from torch.utils.data import Dataset

from traiNNer.data.crop import SmallImages
from traiNNer.data.describe import describe_kinds, describe_sizes, warn_of_unequal_colors
from traiNNer.data.dynamic_dataloader_wrapper import PairedImageDatasetDynamicMixin
from traiNNer.data.pairing import ImagePair, pair_folders
from traiNNer.data.pixel_source import IMAGE_FILES, ImagesOfStore, PixelSource, top_of
from traiNNer.data.sample import Sample
from traiNNer.data.scan import as_roots
from traiNNer.data.walk import LeftOut
from traiNNer.utils.images import Pixels
from traiNNer.utils.problems import Problems
from traiNNer.utils.registry import DATASETS
from traiNNer.utils.text import plural


@DATASETS.register("PairedImageDataset")
class PairedImageDataset(PairedImageDatasetDynamicMixin[ImagePair], ImagesOfStore, Dataset[Sample]):
    """GT and LQ images whose names belong together, GT exactly `scale` times as large.

    Every pair is checked from its headers when the dataset is made. An element is asked for by a
    `SampleRequest`.

    Args:
        scale: how many times larger GT is than LQ, per side.
        dataroot_gt: folder of the GT images, with all of its sub-folders; or a list of such
            folders.
        dataroot_lq: folder of the LQ images of the same names; for a list of GT folders, as many in
            the same order.
        use_hflip: exchange left and right of half of the training crops.
        use_rot: turn training crops by multiples of 90 degrees (by exchanging up and down, and rows
            and columns).
        small_images: images smaller than the patch; error lists them, skip leaves them out, pad
            mirrors their edges.
        filename_tmpl: LQ's name, with {} for that of GT, both without suffix; '{}x4' pairs 0001.png
            with 0001x4.png. Left out, equal names are pairs, and a mark such as x4 that all names
            of a side have is found.
        source: where pixels come from; for programs, it is no option.
        unusable: gets the images that cannot be used, where there are pairs without them; None
            makes an error of them. For programs, it is no option.

    Raises:
        DataError: listing all that is wrong with the folders and images.
    """

    # No clips: see `EvalSet.target`.
    target = None

    # Each argument is an option of the dataset's section, with its own name and default.
    def __init__(  # noqa: PLR0913
        self,
        scale: int,
        dataroot_gt: str | list[str],
        dataroot_lq: str | list[str],
        use_hflip: bool = True,
        use_rot: bool = True,
        small_images: SmallImages = "error",
        filename_tmpl: str | None = None,
        source: PixelSource = IMAGE_FILES,
        unusable: Problems | None = None,
    ) -> None:
        self.scale = scale
        self.source = source
        self.use_hflip = use_hflip
        self.use_rot = use_rot
        self.small_images: SmallImages = small_images
        self._other_files = LeftOut()
        pairs = pair_folders(
            as_roots(dataroot_gt),
            as_roots(dataroot_lq),
            scale,
            filename_tmpl,
            left_out=self._other_files,
            unusable=unusable,
        )
        warn_of_unequal_colors((pair.gt, pair.lq) for pair in pairs)
        self.use_elements(pairs)

    @property
    def pairs(self) -> list[ImagePair]:
        """What is read: all pairs but those that are left out as too small."""
        return self.elements

    @property
    def lq_paths(self) -> list[str]:
        """The LQ file of each pair."""
        return [str(pair.lq.path) for pair in self.pairs]

    def lq_extent(self, element: ImagePair) -> tuple[int, int]:
        """Height and width of the LQ image in pixels, from its header."""
        return element.lq.header.height, element.lq.header.width

    def name_paths(self, element: ImagePair) -> tuple[str, str]:
        """The files of LQ and GT."""
        return str(element.lq.path), str(element.gt.path)

    def read_pair(self, element: ImagePair) -> tuple[Pixels, Pixels]:
        """The pixels of LQ (h, w, 3) and GT (h * scale, w * scale, 3), uint8 or uint16.

        Raises:
            DataError: if a file cannot be read.
        """
        return self.source.read(element.lq), self.source.read(element.gt)

    def read_pair_top(self, element: ImagePair, rows: int) -> tuple[Pixels, Pixels]:
        """The first `rows` of LQ, and of GT those over them; or more.

        Raises:
            DataError: if a file cannot be read.
        """
        lq = top_of(self.source, element.lq, rows)
        return lq, top_of(self.source, element.gt, rows * self.scale)

    def for_validation(self) -> PairedImageDataset:
        """Itself: whole images are what is judged."""
        return self

    def require_gt_side(self, side: int, what: str) -> None:
        """Refuse GT images that are too small for `what`, whose sides have to be at least `side`
        pixels.

        Raises:
            DataError: naming them.
        """
        # All of them at once, because they are enlarged or taken out together.
        problems = Problems()
        for pair in self.pairs:
            if min(pair.gt.header.width, pair.gt.header.height) < side:
                problems.add(
                    f"GT image smaller than the {side}x{side} pixels that {what} needs",
                    f"{pair.gt.path} is {pair.gt.size}",
                )
        problems.raise_if_any()

    def summary(self) -> str:
        """One line: how many pairs, their sizes, what is unusual."""
        kinds = describe_kinds([(pair.gt.header, pair.lq.header) for pair in self.pairs])
        parts = [
            plural(len(self), "pair"),
            f"GT {describe_sizes(pair.gt.header for pair in self.pairs)}",
            *kinds,
        ]
        if self.left_out:
            parts.append(f"{self.left_out} left out (smaller than the patch)")
        parts += self._other_files.describe()
        return ", ".join(parts)
