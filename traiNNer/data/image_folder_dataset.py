"""Pictures and what they show."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from traiNNer.data.crop import CropPlan, Placement, SmallImages, cut, draw_plan, pad_to
from traiNNer.data.describe import describe_kinds, describe_sizes
from traiNNer.data.dynamic_mixins import SizedElements
from traiNNer.data.labels import LabelledImage, labels_by_file, labels_by_folder
from traiNNer.data.pixel_source import IMAGE_FILES, ImagesOfStore, PixelSource
from traiNNer.data.sample import Sample, SampleRequest
from traiNNer.data.scan import ScannedImage, as_roots, scan_into, without_repeats
from traiNNer.data.walk import LeftOut
from traiNNer.ops.color import to_uint8
from traiNNer.ops.resize import resize
from traiNNer.utils.images import Pixels, image_to_tensor
from traiNNer.utils.problems import Problems
from traiNNer.utils.registry import DATASETS
from traiNNer.utils.text import plural

# In the middle, upright: how pictures are judged.
_MIDDLE = CropPlan(hflip=False, vflip=False, transpose=False, left=0.5, top=0.5)


@DATASETS.register("ImageFolderDataset", aliases=("ImageFolder",))
class ImageFolderDataset(SizedElements[LabelledImage], ImagesOfStore, Dataset[Sample]):
    """Pictures with their classes: a folder for each class, or a CSV file of paths and classes.

    Args:
        scale: given by the program; 1, for no picture is made.
        dataroot: a folder with a folder for each class, at any depth below it; or a list of such.
            With `labels`, the folder that the paths are below.
        labels: a CSV file with a line of headings: paths in the first column, and the class in the
            second one (several between |), or a column of 0 and 1 for each class.
        classes: their names, in order; left out: those of the folders or of the file, sorted.
        multi_label: a picture may have several classes, or none.
        fit: resize makes the shorter side as long as the patch and cuts the rest off; crop cuts the
            patch out of the picture as it is.
        val_split: share of the pictures of each class that is held out, and judged while training
            as the set held_out.
        split_seed: decides which are held out.
        use_hflip: mirror half of the pictures.
        use_rot: turn them by 90 degrees and mirror them upside down, too.
        small_images: with fit crop: pictures smaller than the patch; error lists them, skip leaves
            them out, pad mirrors their edges.
        source: where pixels come from; for programs, it is no option.

    Raises:
        DataError: listing all that is wrong with folders, pictures and labels.
    """

    # Single pictures: see `EvalSet.target`.
    frames = 1
    target = None
    noun = "picture"

    def __init__(  # noqa: PLR0913 - each is an option
        self,
        scale: int,
        dataroot: str | list[str],
        labels: str | None = None,
        classes: list[str] | None = None,
        multi_label: bool = False,
        fit: Literal["resize", "crop"] = "resize",
        val_split: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        split_seed: int = 0,
        use_hflip: bool = True,
        use_rot: bool = False,
        small_images: SmallImages = "error",
        source: PixelSource = IMAGE_FILES,
    ) -> None:
        self.scale = scale
        self.fit = fit
        self.use_hflip = use_hflip
        self.use_rot = use_rot
        self.small_images: SmallImages = small_images
        self.multi_label = multi_label
        self.source = source
        self._augmented = True
        self._other_files = LeftOut()
        problems = Problems()
        images: list[ScannedImage] = []
        for root in without_repeats(as_roots(dataroot)):
            images += scan_into(root, problems, self._other_files)
        problems.raise_if_any()
        if labels is None:
            elements, self.classes = labels_by_folder(images, classes, problems)
        else:
            elements, self.classes = labels_by_file(images, Path(labels), classes, problems)
        _require_classes(elements, self.classes, problems, multi_label=multi_label)
        problems.raise_if_any()
        self.use_elements(elements)
        self._held_out = self.split_off(val_split, split_seed) if val_split else None

    @property
    def facts(self) -> dict[str, str]:
        """What a file of weights has to say of it."""
        return {"classes": json.dumps(self.classes), "fit": self.fit}

    @property
    def lq_paths(self) -> list[str]:
        """The file of each picture."""
        return [str(element.image.path) for element in self.elements]

    def lq_extent(self, element: LabelledImage) -> tuple[int, int]:
        """Height and width in pixels, from the header."""
        return element.image.header.height, element.image.header.width

    def name_paths(self, element: LabelledImage) -> tuple[str, str]:
        """The picture's file, twice."""
        return str(element.image.path), str(element.image.path)

    def require_lq_size(self, lq_size: int, indices: Sequence[int] | None = None) -> None:
        """As for any dataset; a picture that is resized is never too small."""
        if self.fit == "crop":
            super().require_lq_size(lq_size, indices)

    def largest_lq_size_of(self, indices: Sequence[int] | None) -> int:
        """See `SizedDataset`: where pictures are resized, the largest that enlarges not all of
        them.
        """
        if self.fit == "crop":
            return super().largest_lq_size_of(indices)
        return max(min(self.lq_extent(element)) for element in self._chosen(indices))

    def __getitem__(self, index: SampleRequest) -> Sample:
        """Read the picture of a request: lq (3, h, w), its label; gt None. Of a request without a
        size the whole picture.

        Raises:
            DataError: if the file cannot be read, or is smaller than the crop.
        """
        element = self.elements[index.index]
        path = str(element.image.path)
        pixels = self.source.read(element.image)
        plan = _MIDDLE
        if self._augmented and index.lq_size is not None:
            plan = draw_plan(index.seed, self.use_hflip, self.use_rot)
        if index.lq_size is None:
            picture, place = image_to_tensor(pixels), None
        elif self.fit == "crop":
            picture, place = self._cropped(element, pixels, index.lq_size, plan)
        else:
            picture, place = _resized(pixels, index.lq_size, plan), None
        sample = Sample(picture, None, index.index, path, None, placement=place, seed=index.seed)
        sample.label = self._label(element)
        sample.scale = self.scale
        return sample

    def _cropped(
        self, element: LabelledImage, pixels: Pixels, side: int, plan: CropPlan
    ) -> tuple[Tensor, Placement]:
        height, width = pixels.shape[:2]
        if min(height, width) < side and self.small_images != "pad":
            raise self._too_small([element], side)
        place = Placement(plan, height, width)
        return image_to_tensor(cut(pad_to(pixels, side), place, side, 1)), place

    def _label(self, element: LabelledImage) -> Tensor:
        """The number of its class; where there may be several, 0 or 1 for each class."""
        if not self.multi_label:
            return torch.tensor(element.classes[0])
        label = torch.zeros(len(self.classes))
        label[list(element.classes)] = 1
        return label

    def held_out(self) -> ImageFolderDataset | None:
        """The pictures of `val_split`; None without."""
        return self._held_out

    def split_off(self, share: float, seed: int) -> ImageFolderDataset:
        """Take a share of the pictures of each class out of this set, to be judged by.

        Args:
            share: above 0, below 1; of each class one picture at least goes and one stays.
            seed: decides which.
        """
        elements = self.elements
        drawn = _drawn(elements, share, seed)
        other = copy.copy(self)
        other.use_elements([elements[place] for place in sorted(drawn)])
        self.use_elements([one for place, one in enumerate(elements) if place not in drawn])
        return other.for_validation()

    def for_validation(self) -> ImageFolderDataset:
        """The same pictures in the middle and upright."""
        other = copy.copy(self)
        other._augmented = False  # noqa: SLF001 - its own copy
        return other

    def require_gt_side(self, side: int, what: str) -> None:
        """Nothing to refuse: there is no GT."""

    def summary(self) -> str:
        """One line: how many pictures of which classes, their sizes, what is unusual."""
        headers = [element.image.header for element in self.elements]
        counts = Counter(number for element in self.elements for number in element.classes)
        by_class = ", ".join(f"{name} {counts[n]}" for n, name in enumerate(self.classes))
        parts = [
            f"{plural(len(self), 'picture')} of {len(self.classes)} classes ({by_class})",
            describe_sizes(headers),
            *describe_kinds([(header,) for header in headers]),
        ]
        if self._held_out is not None:
            parts.append(f"{len(self._held_out)} held out")
        if self.left_out:
            parts.append(f"{self.left_out} left out (smaller than the patch)")
        return ", ".join(parts + self._other_files.describe())


def _require_classes(
    elements: Sequence[LabelledImage],
    classes: Sequence[str],
    problems: Problems,
    *,
    multi_label: bool,
) -> None:
    if len(classes) < 2 and not multi_label:
        names = ", ".join(classes) or "none"
        problems.add("there have to be two classes or more", f"found: {names}")
    counts = Counter(number for element in elements for number in element.classes)
    for number, name in enumerate(classes):
        if not counts[number]:
            problems.add("class without a picture", name)
        elif counts[number] == 1:
            problems.add("class of one picture, of which nothing can be learned", name)
    for element in elements:
        if len(element.classes) != 1 and not multi_label:
            kind = "picture with no class, or with several; set multi_label: true"
            problems.add(kind, str(element.image.path))


def _resized(pixels: Pixels, side: int, plan: CropPlan) -> Tensor:
    """(3, side, side) uint8: the shorter side is as long, and the rest is cut off."""
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    size = (max(side, round(height * side / shorter)), max(side, round(width * side / shorter)))
    tensor = image_to_tensor(pixels)
    levels = 255 if tensor.dtype == torch.uint8 else 1
    resized = to_uint8((resize(tensor.float() / levels, size)).clamp(0, 1))
    array = resized.permute(1, 2, 0).numpy()
    place = Placement(plan, *size)
    return image_to_tensor(cut(array, place, side, 1))


def _drawn(elements: Sequence[LabelledImage], share: float, seed: int) -> set[int]:
    """The places of the pictures that are held out: of each class, or set of classes, its share,
    one at least and not all.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, element in enumerate(elements):
        groups.setdefault(element.classes, []).append(place)
    held_out: set[int] = set()
    for classes, places in sorted(groups.items()):
        count = max(1, round(share * len(places)))
        # By the class too, so that a class more changes nothing in the others.
        draw = random.Random(f"{seed} {classes}")  # noqa: S311 - no cryptography here
        held_out.update(draw.sample(places, min(count, len(places) - 1)))
    return held_out
