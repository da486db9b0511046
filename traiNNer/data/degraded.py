"""What datasets of GT alone share: LQ is made of GT while reading."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from traiNNer.data.crop import CropPlan, Placement, oriented, pad_to
from traiNNer.data.degrading import DegradationRecipe, Done
from traiNNer.data.dynamic_mixins import Element, PairedDynamicMixin, Target
from traiNNer.data.sample import SampleRequest, stack
from traiNNer.data.shrinking import shrink
from traiNNer.ops.resize import ResizeMode
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import Pixels, image_to_tensor
from traiNNer.utils.seeds import hash_seed

# LQ pixels around a crop that its edge is made of too. The widest kernel that shrinks, lanczos,
# reaches three; degradations reach further, to the end of a square of JPEG and a half of the next.
_SHRINKING_MARGIN = 4
_DEGRADING_MARGIN = 12
# Further pixels above and at the left, 0 to 7, drawn: the squares of codecs begin at the corner of
# the piece that is degraded, and so anywhere in a crop.
_PHASES = 8
# The most that is read below a crop, however the picture is flipped.
_DEEPEST_MARGIN = _DEGRADING_MARGIN + _PHASES


@dataclass(frozen=True, slots=True)
class _Window:
    """A piece of GT, and where the crop lies within; all in LQ pixels, in the picture that is
    flipped as the plan says.
    """

    plan: CropPlan
    size: int
    rows: range
    columns: range
    top: int
    left: int

    def piece(self, gt: Pixels, scale: int) -> Pixels:
        """The piece of a frame of GT, as a view."""
        view = oriented(pad_to(gt, self.size * scale), self.plan)
        return view[
            self.rows.start * scale : self.rows.stop * scale,
            self.columns.start * scale : self.columns.stop * scale,
        ]

    def crop(self, piece: Pixels, factor: int) -> Pixels:
        """The crop within a piece of LQ (factor 1) or GT (factor scale)."""
        top, left, side = (place * factor for place in (self.top, self.left, self.size))
        return piece[top : top + side, left : left + side]


class DegradedDataset(PairedDynamicMixin[Element]):
    """Makes LQ of GT while reading: by shrinking it, or by a recipe of degradations.

    Only what a crop is made of is degraded: the crop and a margin. It is flipped before, so that
    what degrades, a grid of squares or lines, lies over LQ as it is learnt. The class sets what its
    base needs, calls `use_elements` and `degrade_by`, and gives `lq_extent`, `name_paths`,
    `read_gt` and `target_of_clips`.
    """

    def degrade_by(self, degradations: Any, mode: ResizeMode) -> None:
        """Take on a recipe, as `degradations` of the options has it (None shrinks alone), and the
        kernel that shrinks.

        Raises:
            ValidationError: if the recipe is wrong.
            OptionsError: if a step of it needs what is not installed.
        """
        self.mode: ResizeMode = mode
        self._recipe: DegradationRecipe | None = None
        if degradations is not None:
            self._recipe = DegradationRecipe(degradations, self.scale, mode)

    @property
    def is_degraded(self) -> bool:
        """Whether there is a recipe, and LQ is not only shrunk."""
        return self._recipe is not None

    @property
    def depends_on_size(self) -> bool:
        """See `views.depends_on_size`."""
        return self.is_degraded

    @property
    @abstractmethod
    def target_of_clips(self) -> Target | None:
        """Which frames of a clip GT is of; None for pictures."""

    @abstractmethod
    def read_gt(self, element: Element) -> Iterable[Pixels]:
        """The frames (H, W, 3) of GT in order, uint8 or uint16; a picture is one.

        Raises:
            DataError: if a file cannot be read, or has changed since it was checked.
        """

    def read_gt_top(self, element: Element, rows: int) -> Iterable[Pixels]:
        """The same frames, of which the first `rows` at least are decoded; what is below them may
        be anything.

        Raises:
            DataError: as `read_gt`.
        """
        del rows
        return self.read_gt(element)

    def read_with_history(
        self, request: SampleRequest, *, drawn: int = 0
    ) -> tuple[Tensor, Tensor, list[Done]]:
        """LQ (..., 3, h, w) and GT (..., 3, h * scale, w * scale) of a request, and what was done
        to LQ.

        Args:
            request: of the sample.
            drawn: which of many ways to degrade this very crop; training takes the first.

        Raises:
            DataError: if GT cannot be read, or a step of the recipe fails.
        """
        lq, gt, _, done = self._made(self.elements[request.index], request, drawn)
        return lq, gt, done

    def real_lq(self, element: Element, request: SampleRequest) -> Pixels | None:
        """LQ (h, w, 3) of a picture that is there already; None makes it."""
        del element, request
        return None

    def _read(self, element: Element, request: SampleRequest) -> tuple[Tensor, Tensor, Placement]:
        lq, gt, placement, _ = self._made(element, request, 0)
        return lq, gt, placement

    def _made(
        self, element: Element, request: SampleRequest, drawn: int
    ) -> tuple[Tensor, Tensor, Placement, list[Done]]:
        height, width = self.lq_extent(element)
        placement = self._place(element, (height, width), request)
        real = self.real_lq(element, request)
        if real is not None:
            pair = real, next(iter(self.read_gt(element)))
            self._check_pair(element, pair)
            return *self._cut_pair(pair, request, placement), placement, [Done("from disk", {})]
        window = None
        seed = self._seed_of_whole(request)
        if request.lq_size is not None:
            window = self._window(placement, request.lq_size, request.seed)
            seed = hash_seed(request.seed, 4, drawn)
            rows = placement.corner(request.lq_size)[0] + request.lq_size + _DEEPEST_MARGIN
            frames = self.read_gt_top(element, rows * self.scale)
        else:
            frames = self.read_gt(element)
        pieces: list[Pixels] = []
        for frame in frames:
            whole = frame[: height * self.scale, : width * self.scale]
            # A copy, so that a clip is never in memory as a whole.
            pieces.append(whole if window is None else window.piece(whole, self.scale).copy())
        if self._is_reversed(request):
            pieces.reverse()
        lqs, done = self._make_lq(element, pieces, seed)
        gts = pieces if self.target_of_clips != "center" else [pieces[len(pieces) // 2]]
        if window is not None:
            lqs = [window.crop(lq, 1) for lq in lqs]
            gts = [window.crop(gt, self.scale) for gt in gts]
        lq, gt = (stack([image_to_tensor(frame) for frame in frames]) for frames in (lqs, gts))
        lq = lq[0] if self.target_of_clips is None else lq
        gt = gt if self.target_of_clips == "all" else gt[0]
        return lq, gt, placement, done

    def _seed_of_whole(self, request: SampleRequest) -> int:
        """What decides how a whole picture is degraded: the same every time, to be judged by."""
        return hash_seed(0, request.index)

    def _window(self, placement: Placement, size: int, seed: int) -> _Window:
        top, left = placement.oriented_corner(size)
        margin = _SHRINKING_MARGIN
        above = before = margin
        if self._recipe is not None:
            margin = _DEGRADING_MARGIN
            above = margin + hash_seed(seed, 2) % _PHASES
            before = margin + hash_seed(seed, 3) % _PHASES
        rows = range(max(0, top - above), top + size + margin)
        columns = range(max(0, left - before), left + size + margin)
        return _Window(placement.plan, size, rows, columns, top - rows.start, left - columns.start)

    def _make_lq(
        self, element: Element, pieces: list[Pixels], seed: int
    ) -> tuple[list[Pixels], list[Done]]:
        """LQ (h, w, 3) of each piece of GT, and what was done."""
        if self._recipe is None:
            return [shrink(piece, self.scale, self.mode) for piece in pieces], []
        frames = np.stack(
            [piece / np.float32(np.iinfo(piece.dtype).max) for piece in pieces], dtype=np.float32
        )
        try:
            lq, done = self._recipe(frames, seed)
        except DataError as error:
            raise DataError(f"{self.name_paths(element)[1]}: {error}") from error
        return list(lq), done
