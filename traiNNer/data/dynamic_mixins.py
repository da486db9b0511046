"""The contract of a dataset that crops what the request names: images, and clips with one crop for
all frames.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Generic, Literal, TypeVar

from torch import Tensor

from traiNNer.data.crop import Placement, SmallImages, cut, draw_plan, pad_to
from traiNNer.data.sample import Sample, SampleRequest, stack
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import Pixels, image_to_tensor
from traiNNer.utils.problems import Problems
from traiNNer.utils.seeds import hash_seed
from traiNNer.utils.text import plural

log = logging.getLogger(__name__)

Element = TypeVar("Element")
FramePair = tuple[Pixels, Pixels]
ClipFrame = tuple[Pixels, Pixels | None]
Target = Literal["all", "center"]


class SizedElements(ABC, Generic[Element]):
    """The elements of a dataset, their sizes, and the policy for those that are too small.

    Attributes:
        small_images: images smaller than the patch; error lists them, skip leaves them out, pad
            mirrors their edges.
        noun: what an element is called in messages.
    """

    small_images: SmallImages
    noun = "pair"

    @abstractmethod
    def lq_extent(self, element: Element) -> tuple[int, int]:
        """Height and width of the element's LQ in pixels, without reading it."""

    @abstractmethod
    def name_paths(self, element: Element) -> tuple[str, str]:
        """Where LQ and GT come from, for messages and for the sample."""

    def use_elements(self, elements: list[Element]) -> None:
        """Take these as all that there is."""
        self._all_elements = elements
        self._elements = elements

    @property
    def elements(self) -> list[Element]:
        """What is read: all but those that are left out as too small."""
        return self._elements

    @property
    def left_out(self) -> int:
        """How many are left out as too small."""
        return len(self._all_elements) - len(self._elements)

    @property
    def smallest_side(self) -> int:
        """The shortest side of any LQ image, in pixels: the largest crop that every image has."""
        return min(map(self._side, self._elements))

    @property
    def largest_lq_size(self) -> int:
        """The largest crop in LQ pixels that the elements allow: see `largest_lq_size_of`."""
        return self.largest_lq_size_of(None)

    def largest_lq_size_of(self, indices: Sequence[int] | None) -> int:
        """The largest crop in LQ pixels that the named elements (None: all) allow.

        It is the shortest side of the smallest image; with `small_images: pad` that of the largest
        one, because beyond it every patch would be mirrored edges.
        """
        sides = map(self._side, self._chosen(indices))
        return max(sides) if self.small_images == "pad" else min(sides)

    def require_lq_size(self, lq_size: int, indices: Sequence[int] | None = None) -> None:
        """Prepare for training with crops of up to `lq_size` pixels: apply `small_images`.

        Call it before the dataset goes to a loader; its length may change. Reading whole images
        does not need it.

        Args:
            lq_size: side of the largest crop in LQ pixels.
            indices: the elements that are used, where others use this dataset by index; None is
                all. Its length does not change then.

        Raises:
            DataError: if images are smaller and the policy is error, or if skipping leaves nothing.
        """
        if indices is None:
            self._elements = self._all_elements
        small = [element for element in self._chosen(indices) if self._side(element) < lq_size]
        if not small:
            return
        number = plural(len(small), self.noun)
        if self.small_images == "pad":
            log.info("%s smaller than the patch of %d: their edges are mirrored", number, lq_size)
            return
        if self.small_images == "error" or indices is not None:
            raise self._too_small(small, lq_size)
        if len(small) == len(self._all_elements):
            raise DataError(
                f"all {len(small)} LQ images are smaller than the patch of {lq_size}x{lq_size} "
                "(lq_size), and small_images: skip leaves none; choose lq_size "
                f"{max(map(self._side, small))} or less, or small_images: pad"
            )
        self._elements = [
            element for element in self._all_elements if self._side(element) >= lq_size
        ]
        log.info("%s left out: smaller than the patch of %d", number, lq_size)

    def __len__(self) -> int:
        return len(self._elements)

    def _chosen(self, indices: Sequence[int] | None) -> list[Element]:
        return self._elements if indices is None else [self._elements[index] for index in indices]

    def _side(self, element: Element) -> int:
        return min(self.lq_extent(element))

    def _too_small(self, elements: list[Element], lq_size: int) -> DataError:
        """Naming the files and the levers."""
        problems = Problems()
        kind = (
            f"LQ image smaller than the patch of {lq_size}x{lq_size} (lq_size); choose lq_size "
            f"{min(map(self._side, elements))} or less, or set small_images: skip (leave them out) "
            "or pad (mirror their edges) in the dataset's section"
        )
        for element in elements:
            height, width = self.lq_extent(element)
            problems.add(kind, f"{self.name_paths(element)[0]} is {width}x{height}")
        return problems.error()


class PairedDynamicMixin(SizedElements[Element]):
    """What images and clips share: the crop of a pair of frames.

    The size of the crop is nowhere but in the request. The class sets the attributes, then calls
    `use_elements`.

    Attributes:
        scale: GT pixels for each LQ pixel, per side.
        use_hflip: see `draw_plan`.
        use_rot: see `draw_plan`.
        use_time_flip: reverse the order of the frames of half of the crops.
    """

    scale: int
    use_hflip: bool
    use_rot: bool
    use_time_flip: bool = False

    @abstractmethod
    def _read(self, element: Element, request: SampleRequest) -> tuple[Tensor, Tensor, Placement]:
        """LQ and GT tensors of the request, and where the crop lies."""

    @property
    def frames(self) -> int:
        """Frames of a sample's LQ: 1 for images."""
        return 1

    def __getitem__(self, index: SampleRequest) -> Sample:
        """Read the element of a request: lq (..., 3, h, w) and gt (..., 3, h * scale, w * scale).

        Both are uint8 or float32 in [0, 1]; of clips the first dimension is time.

        Raises:
            DataError: if a file cannot be read, has changed since it was checked, or is smaller
                than the crop.
        """
        element = self._elements[index.index]
        lq, gt, placement = self._read(element, index)
        lq_path, gt_path = self.name_paths(element)
        # Whole images are not augmented, so their place says nothing.
        known = None if index.lq_size is None else placement
        return Sample(
            lq,
            gt,
            index.index,
            lq_path,
            gt_path,
            placement=known,
            seed=index.seed,
            scale=self.scale,
        )

    def _place(
        self, element: Element, extent: tuple[int, int], request: SampleRequest
    ) -> Placement:
        """Draw where the crop lies.

        Raises:
            DataError: if the image is smaller than the crop and is not to be padded.
        """
        height, width = extent
        if (
            request.lq_size is not None
            and min(height, width) < request.lq_size
            and self.small_images != "pad"
        ):
            raise self._too_small([element], request.lq_size)
        return Placement(draw_plan(request.seed, self.use_hflip, self.use_rot), height, width)

    def _is_reversed(self, request: SampleRequest) -> bool:
        # From a hash of its own, so that the crop and the flips of the seed are the same with and
        # without it.
        return (
            self.use_time_flip
            and request.lq_size is not None
            and hash_seed(request.seed, 1) % 2 == 1
        )

    def _cut_pair(
        self, pair: FramePair, request: SampleRequest, place: Placement
    ) -> tuple[Tensor, Tensor]:
        """The crop of an LQ and a GT frame, each (3, h, w)."""
        return self._cut_one(pair[0], request, place, 1), self._cut_one(
            pair[1], request, place, self.scale
        )

    def _cut_one(
        self, pixels: Pixels, request: SampleRequest, place: Placement, factor: int
    ) -> Tensor:
        """The crop of an LQ frame (factor 1) or a GT frame (factor scale), (3, h, w)."""
        if request.lq_size is not None:
            pixels = cut(pad_to(pixels, request.lq_size * factor), place, request.lq_size, factor)
        return image_to_tensor(pixels)

    def _check_pair(self, element: Element, pair: FramePair) -> None:
        """Compare the sizes of an LQ and a GT frame.

        Raises:
            DataError: if they do not agree.
        """
        lq, gt = pair
        if gt.shape[:2] != (lq.shape[0] * self.scale, lq.shape[1] * self.scale):
            lq_path, gt_path = self.name_paths(element)
            raise DataError(
                f"{gt_path} is {gt.shape[1]}x{gt.shape[0]} and {lq_path} is "
                f"{lq.shape[1]}x{lq.shape[0]}: not {self.scale} times as large any more; were the "
                "files changed while the program runs?"
            )


class PairedImageDatasetDynamicMixin(PairedDynamicMixin[Element]):
    """Makes a dataset of image pairs crop what the request names.

    The class sets `scale`, `use_hflip`, `use_rot` and `small_images`, calls `use_elements`, and
    gives `lq_extent`, `name_paths` and `read_pair`.
    """

    def read_pair_top(self, element: Element, rows: int) -> FramePair:
        """The first `rows` of LQ, and of GT those over them; or more.

        Raises:
            DataError: if a file cannot be read.
        """
        del rows
        return self.read_pair(element)

    @abstractmethod
    def read_pair(self, element: Element) -> FramePair:
        """Read LQ (h, w, 3) and GT (h * scale, w * scale, 3), uint8 or uint16.

        Raises:
            DataError: if a file cannot be read.
        """

    def _read(self, element: Element, request: SampleRequest) -> tuple[Tensor, Tensor, Placement]:
        placement = self._place(element, self.lq_extent(element), request)
        pair = self._read_rows(element, request, placement)
        if pair is None:
            pair = self.read_pair(element)
            self._check_pair(element, pair)
            placement = self._place(element, pair[0].shape[:2], request)
        return *self._cut_pair(pair, request, placement), placement

    def _read_rows(
        self, element: Element, request: SampleRequest, placement: Placement
    ) -> FramePair | None:
        """A pair down to the end of the crop at least; None where all of it is needed, or where the
        files are not those that were checked.
        """
        size = request.lq_size
        height = placement.height
        width = placement.width
        if size is None or min(height, width) < size:
            return None
        rows = placement.corner(size)[0] + size
        pair = self.read_pair_top(element, rows)
        for pixels, factor in zip(pair, (1, self.scale), strict=True):
            is_wide = pixels.shape[1] == width * factor
            if not is_wide or pixels.shape[0] not in (rows * factor, height * factor):
                return None
        return pair


class PairedVideoDatasetDynamicMixin(PairedDynamicMixin[Element]):
    """Makes a dataset of clips crop what the request names, at one place and in one orientation for
    all frames.

    A sample is lq (T, 3, h, w) and gt (T, 3, h * scale, w * scale), or with `target` center gt (3,
    h * scale, w * scale). The class sets `scale`, `use_hflip`, `use_rot` and `small_images`, calls
    `use_elements`, and gives `lq_extent`, `name_paths` and `read_frames`.

    Attributes:
        target: whether `read_frames` gives GT for all frames, or for one alone.
    """

    noun = "clip"
    target: Target = "all"

    @abstractmethod
    def read_frames(self, element: Element) -> Iterable[ClipFrame]:
        """Read the frames in order: LQ (h, w, 3) and GT (h * scale, w * scale, 3), uint8 or uint16,
        one by one.

        Each is cropped before the next is read, so that a clip is never in memory as a whole. A
        frame without a target has None for GT.

        Raises:
            DataError: if a file cannot be read.
        """

    def _read(self, element: Element, request: SampleRequest) -> tuple[Tensor, Tensor, Placement]:
        placement: Placement | None = None
        lqs: list[Tensor] = []
        gts: list[Tensor] = []
        for lq, gt in self.read_frames(element):
            placement = placement or self._place(element, lq.shape[:2], request)
            if lq.shape[:2] != (placement.height, placement.width):
                height, width = lq.shape[:2]
                raise DataError(
                    f"{self.name_paths(element)[0]}: frame {len(lqs) + 1} is {width}x{height} and "
                    f"the first one is {placement.width}x{placement.height}; the frames of a clip "
                    "are equally large"
                )
            if gt is not None:
                self._check_pair(element, (lq, gt))
                gts.append(self._cut_one(gt, request, placement, self.scale))
            lqs.append(self._cut_one(lq, request, placement, 1))
        if placement is None or not gts:
            raise DataError(f"{self.name_paths(element)[0]}: the clip has no frames")
        if self._is_reversed(request):
            lqs.reverse()
            gts.reverse()
        return stack(lqs), gts[0] if self.target == "center" else stack(gts), placement
