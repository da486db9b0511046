"""LQ images without GT, for looking at results."""

from __future__ import annotations

from typing import Literal

from torch.utils.data import Dataset

from traiNNer.data.describe import describe_kinds, describe_sizes
from traiNNer.data.pixel_source import IMAGE_FILES, PixelSource
from traiNNer.data.sample import Sample, SampleRequest
from traiNNer.data.scan import (
    OF_SINGLE_FILES,
    ScannedImage,
    as_roots,
    scan_file,
    scan_into,
    without_repeats,
)
from traiNNer.data.walk import LeftOut
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import Pixels, image_to_tensor, read_picture
from traiNNer.utils.problems import Problems
from traiNNer.utils.registry import DATASETS
from traiNNer.utils.text import plural

Alpha = Literal["drop", "keep"]


@DATASETS.register("SingleImageDataset")
class SingleImageDataset(Dataset[Sample]):
    """Whole LQ images without GT. An element is asked for by a `SampleRequest` with `lq_size` None.

    Args:
        scale: how many times larger the results are, per side; the images do not depend on it.
        dataroot_lq: a folder of images with all of its sub-folders, or one image file; or a list of
            such.
        alpha: transparency of the images; drop leaves it out of the results, keep has test.py
            enlarge it bicubically and write it into them.
        source: where pixels come from; for programs, it is no option.
        unusable: gets the images that cannot be used, where there are others; None makes an error
            of them. For programs, it is no option.

    Raises:
        DataError: listing all that is wrong with the folders and images.
    """

    # No clips: see `EvalSet.target`.
    frames = 1
    target = None

    def __init__(
        self,
        scale: int,
        dataroot_lq: str | list[str],
        alpha: Alpha = "drop",
        source: PixelSource = IMAGE_FILES,
        unusable: Problems | None = None,
    ) -> None:
        self.scale = scale
        self.alpha: Alpha = alpha
        self.source = source
        problems = Problems()
        self._images: list[ScannedImage] = []
        self._other_files = LeftOut()
        roots = as_roots(dataroot_lq)
        if not roots:
            raise DataError("dataroot_lq is an empty list; name a folder or an image")
        for root in without_repeats(roots):
            if root.is_file():
                # A single file is what one tries a checkpoint on.
                self._images += scan_file(root, problems)
            else:
                self._images += scan_into(root, problems, self._other_files)
        if unusable is not None and self._images:
            problems.move(OF_SINGLE_FILES, unusable)
        problems.raise_if_any()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: SampleRequest) -> Sample:
        """Read the whole image of a request: lq (3, h, w), uint8 or float32 in [0, 1]; gt None.

        Raises:
            DataError: if the file cannot be read.
            DataError: if a crop is asked for, as for training.
        """
        # Crops are for training, for which there is no GT here.
        if index.lq_size is not None:
            self.require_lq_size(index.lq_size)
        image = self._images[index.index]
        lq = image_to_tensor(self.source.read(image))
        return Sample(lq, None, index.index, str(image.path), None)

    @property
    def lq_paths(self) -> list[str]:
        """The file of each image."""
        return [str(image.path) for image in self._images]

    def read_alpha(self, index: int) -> Pixels | None:
        """The transparency of an image (h, w), uint8 or uint16; None where there is none, or where
        it is dropped. It decodes the file once more.

        Raises:
            DataError: if the file cannot be read.
        """
        image = self._images[index]
        # 2 channels are grey and alpha, 4 are colour and alpha: see `ImageHeader`.
        if self.alpha == "drop" or image.header.channels not in (2, 4):
            return None
        return read_picture(image.path).alpha

    def for_validation(self) -> SingleImageDataset:
        """Itself: whole images are what is looked at."""
        return self

    def require_lq_size(self, lq_size: int) -> None:
        """Refuse to be trained on.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"a SingleImageDataset has no GT, so there is nothing to train on (crops of {lq_size} "
            "pixels were asked for); use type: PairedImageDataset with dataroot_gt and dataroot_lq"
        )

    def require_gt_side(self, side: int, what: str) -> None:
        """Nothing to refuse: there is no GT."""

    def summary(self) -> str:
        """One line: how many images, their sizes, what is unusual."""
        headers = [image.header for image in self._images]
        alpha_is = "kept" if self.alpha == "keep" else "dropped"
        return ", ".join(
            [
                plural(len(self), "image"),
                describe_sizes(headers),
                *describe_kinds([(h,) for h in headers], alpha_is),
                *self._other_files.describe(),
            ]
        )
