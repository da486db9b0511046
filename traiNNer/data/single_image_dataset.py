"""LQ images without GT, for looking at results."""

from __future__ import annotations

from torch.utils.data import Dataset

from traiNNer.data.describe import describe_kinds, describe_sizes
from traiNNer.data.pixel_source import IMAGE_FILES, PixelSource
from traiNNer.data.sample import Sample, SampleRequest
from traiNNer.data.scan import ScannedImage, as_roots, scan_file, scan_into
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import image_to_tensor
from traiNNer.utils.problems import Problems
from traiNNer.utils.registry import DATASETS
from traiNNer.utils.text import plural


@DATASETS.register("SingleImageDataset")
class SingleImageDataset(Dataset[Sample]):
    """Whole LQ images without GT. An element is asked for by a `SampleRequest` with `lq_size` None.

    Args:
        scale: how many times larger the results are, per side; the images do not depend on it.
        dataroot_lq: a folder of images with all of its sub-folders, or one image file; or a list of
            such.
        source: where pixels come from; for programs, it is no option.

    Raises:
        DataError: listing all that is wrong with the folders and images.
    """

    # No clips: see `EvalSet.target`.
    frames = 1
    target = None

    def __init__(
        self, scale: int, dataroot_lq: str | list[str], source: PixelSource = IMAGE_FILES
    ) -> None:
        self.scale = scale
        self.source = source
        problems = Problems()
        self._images: list[ScannedImage] = []
        roots = as_roots(dataroot_lq)
        if not roots:
            raise DataError("dataroot_lq is an empty list; name a folder or an image")
        for root in roots:
            # A single file is what one tries a checkpoint on.
            scan = scan_file if root.is_file() else scan_into
            self._images += scan(root, problems)
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
        return ", ".join(
            [
                plural(len(self), "image"),
                describe_sizes(headers),
                *describe_kinds([(h,) for h in headers]),
            ]
        )
