"""The part that notes how hard each place of the training images is: for the curriculum, and for a
sheet of the hardest, among which wrong pairs are found.
"""

from __future__ import annotations

import csv
import io
import logging
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from traiNNer.data import Batch, SampleRequest
from traiNNer.data.curriculum import AdaptiveCurriculumSampler, Snapshot, competence, ranks_of
from traiNNer.data.sample import collate
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run
from traiNNer.models import StepResult
from traiNNer.models.step import DIFFICULTY, SampleVisit
from traiNNer.ops.color import to_uint8
from traiNNer.ops.resize import resize
from traiNNer.options.curriculum import CurriculumOptions
from traiNNer.utils.errors import DataError, DiskError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.images import write_image
from traiNNer.utils.names import cut, visible
from traiNNer.utils.out_of_memory import first_line, is_out_of_memory

log = logging.getLogger(__name__)

# Side of a tile in LQ pixels: what is called one place of a large image.
TILE = 128
# Steps whose figures wait on the device: reading them waits for it.
WAITING_STEPS = 32
# Values of a size among which a new one gets its rank.
RECENT = 512
# Least weight of a new rank in a tile's mean.
FOLLOWING = 0.3
# Tiles of either kind on the sheet, and in the table.
SHOWN = 32
COLUMNS = 4
# Side of a picture on the sheet, in pixels.
SIDE = 128
MARGIN = 8
TITLE = 16


@dataclass
class Tile:
    """What is known of one place.

    Attributes:
        rank: mean rank of its samples among those of their size, 0 for the easiest to 1.
        value: mean difficulty.
        count: samples.
        visit: the last sample.
    """

    rank: float
    value: float
    count: int
    visit: SampleVisit


@dataclass
class RecentValues:
    """The last values of one size, in order of time and of size."""

    values: deque[float] = field(default_factory=deque)
    ordered: list[float] = field(default_factory=list)

    def rank(self, value: float) -> float:
        """The share of the recent values that are below it, those equal to it by half; 0.5 for the
        first one.
        """
        if not self.ordered:
            return 0.5
        below = bisect_left(self.ordered, value)
        equal = bisect_right(self.ordered, value) - below
        return (below + equal / 2) / len(self.ordered)

    def add(self, value: float) -> None:
        """Take it in, and forget the oldest of too many."""
        self.values.append(value)
        insort(self.ordered, value)
        if len(self.values) > RECENT:
            oldest = self.values.popleft()
            del self.ordered[bisect_left(self.ordered, oldest)]


class DifficultyNotes(Part):
    """Notes how hard samples are, hands it to the curriculum's order, and writes the sheet.

    Args:
        curriculum: of the options; None where the order is another.
        report: whether the hardest and easiest places are written at the end.
    """

    name: ClassVar[str] = "difficulty"
    needs_per_sample: ClassVar[bool] = True

    def __init__(self, curriculum: CurriculumOptions | None, *, report: bool) -> None:
        self.tiles: dict[tuple[int, int, int], Tile] = {}
        self._curriculum = curriculum
        self._report = report
        self._recent: dict[int, RecentValues] = {}
        self._waiting: list[tuple[tuple[SampleVisit, ...], Tensor]] = []
        self._block = 0
        self._competence = 0.0

    def after_step(self, run: Run, result: StepResult) -> None:
        """Take in the step's samples; at the beginning of a block decide about the next one."""
        values = difficulty_of_each(result)
        if values is not None:
            self._waiting.append((result.visits, values))
        order = run.stream.loader.sampler.order
        if self._curriculum is None or not isinstance(order, AdaptiveCurriculumSampler):
            if len(self._waiting) >= WAITING_STEPS:
                self._note()
            return
        block = run.stream.loader.samples_consumed // order.block
        # Not by the number of steps: that is another one where sizes grow, and blocks are not.
        if block == self._block and len(self._waiting) < WAITING_STEPS:
            return
        self._note()
        if block != self._block:
            self._block = block
            self._decide(run, order)

    def close(self, run: Run) -> None:
        """Write the sheet and the table; what fails there is only said."""
        self._note()
        if not self._report or not self.tiles:
            return
        try:
            write_report(run, self.tiles)
        except (DataError, DiskError, OSError) as error:
            log.warning("no sheet of the hardest places: %s", first_line(error))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            log.warning("no sheet of the hardest places: %s", first_line(error))

    def scalars(self) -> dict[str, float]:
        points = {"curriculum/places": float(len(self.tiles))}
        if self._curriculum is not None:
            points["curriculum/competence"] = self._competence
        return points

    def state_dict(self) -> dict[str, Any]:
        self._note()
        tiles = self.tiles.items()
        return {
            "keys": [list(key) for key, _ in tiles],
            "means": [[tile.rank, tile.value, tile.count] for _, tile in tiles],
            "visits": [
                [tile.visit.seed, tile.visit.lq_size, *(tile.visit.corner or (-1, -1))]
                for _, tile in tiles
            ],
            "recent": {side: list(recent.values) for side, recent in self._recent.items()},
            "block": self._block,
            "competence": self._competence,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.tiles = {}
        places = zip(state["keys"], state["means"], state["visits"], strict=True)
        for key, (rank, value, count), (seed, side, top, left) in places:
            index, row, column = key
            corner = None if top < 0 else (top, left)
            visit = SampleVisit(index, seed, side, corner)
            self.tiles[index, row, column] = Tile(rank, value, count, visit)
        self._recent = {
            side: RecentValues(deque(values), sorted(values))
            for side, values in state["recent"].items()
        }
        self._block = int(state["block"])
        self._competence = float(state["competence"])

    def _note(self) -> None:
        """Read what waits on the device."""
        waiting = self._waiting
        self._waiting = []
        for visits, values in waiting:
            for visit, value in zip(visits, values.tolist(), strict=True):
                # Of a step that was left out because it was not finite.
                if np.isfinite(value):
                    self._add(visit, value)

    def _add(self, visit: SampleVisit, value: float) -> None:
        recent = self._recent.setdefault(visit.lq_size, RecentValues())
        rank = recent.rank(value)
        recent.add(value)
        key = tile_of(visit)
        tile = self.tiles.get(key)
        if tile is None:
            self.tiles[key] = Tile(rank, value, 1, visit)
            return
        tile.count += 1
        weight = max(FOLLOWING, 1 / tile.count)
        tile.rank += weight * (rank - tile.rank)
        tile.value += weight * (value - tile.value)
        tile.visit = visit

    def _decide(self, run: Run, order: AdaptiveCurriculumSampler) -> None:
        """Hand over what is known, behind the beginning of a block."""
        assert self._curriculum is not None
        given = self._curriculum
        progress = min(1.0, run.done / run.length.total)
        self._competence = competence(progress, given.start, given.until)
        sums: dict[int, list[float]] = {}
        for (index, _, _), tile in self.tiles.items():
            sums.setdefault(index, []).append(tile.rank)
        difficulties = [
            sum(sums[index]) / len(sums[index]) if index in sums else None
            for index in range(len(run.stream.loader.dataset))
        ]
        known = {difficulty for difficulty in difficulties if difficulty is not None}
        if len(known) < 2:
            log.warning("curriculum: no sample is harder than another, so all are visited alike")
            self._competence = 1.0
        order.decide(
            run.stream.loader.samples_consumed, Snapshot(self._competence, ranks_of(difficulties))
        )


def difficulty_of_each(result: StepResult) -> Tensor | None:
    """`(B,)`: the recipe's word for it, or the sum of the losses; None for a step without."""
    per_sample = result.per_sample
    if not per_sample:
        return None
    if DIFFICULTY in per_sample:
        return per_sample[DIFFICULTY]
    return torch.stack(list(per_sample.values())).sum(0)


def tile_of(visit: SampleVisit) -> tuple[int, int, int]:
    """Element, row and column of the place that the middle of the crop is in."""
    if visit.corner is None:
        return visit.index, 0, 0
    top, left = visit.corner
    half = visit.lq_size // 2
    return visit.index, (top + half) // TILE, (left + half) // TILE


def write_report(run: Run, tiles: Mapping[tuple[int, int, int], Tile]) -> None:
    """The sheet `hardest.png` and the table `hardest.csv` in the run's folder.

    Raises:
        DataError: if an image cannot be read any more.
        DiskError: if a file cannot be written.
    """
    # By the mean difficulty where ranks are equal: the most unlikely pairs share the last rank.
    ordered = sorted(tiles.values(), key=lambda tile: (tile.rank, tile.value), reverse=True)
    hardest = ordered[:SHOWN]
    easiest = ordered[SHOWN:][::-1][:SHOWN]
    paths = run.train_set.lq_paths
    folder = run.folders.root
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerow(["place", "rank", "difficulty", "samples", "top", "left", "lq_size", "image"])
    for kind, chosen in (("hardest", hardest), ("easiest", easiest)):
        for number, tile in enumerate(chosen, 1):
            top, left = tile.visit.corner or ("", "")
            table.writerow([
                f"{kind} {number}", f"{tile.rank:.3f}", f"{tile.value:.4f}", tile.count, top, left,
                tile.visit.lq_size, visible(paths[tile.visit.index]),
            ])  # fmt: skip
    write_atomic(folder / "hardest.csv", buffer.getvalue().encode("utf-8", "replace"))
    rows = [
        (title, [(tile, crop_of(run, tile.visit)) for tile in chosen])
        for title, chosen in (("hardest: LQ | GT", hardest), ("easiest: LQ | GT", easiest))
        if chosen
    ]
    sheet = draw_sheet(rows, paths)
    write_image(folder / "hardest.png", np.asarray(sheet))
    log.info("the hardest and the easiest places: %s", folder / "hardest.png")


def crop_of(run: Run, visit: SampleVisit) -> Batch:
    """The crop again, as the losses saw it."""
    request = SampleRequest(visit.index, visit.lq_size, visit.seed)
    return run.recipe.prepare(collate([run.stream.loader.dataset[request]]))


def draw_sheet(
    groups: Sequence[tuple[str, Sequence[tuple[Tile, Batch]]]], paths: Sequence[str]
) -> Image.Image:
    """LQ beside GT of each tile, with the image's name below."""
    cell = 2 * SIDE + MARGIN
    lines = [-(-len(tiles) // COLUMNS) for _, tiles in groups]
    height = sum(TITLE + MARGIN + count * (SIDE + TITLE + MARGIN) for count in lines)
    sheet = Image.new("RGB", (COLUMNS * (cell + MARGIN) + MARGIN, height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    top = MARGIN
    for (title, tiles), count in zip(groups, lines, strict=True):
        draw.text((MARGIN, top), title, fill="black", font=font)
        top += TITLE + MARGIN
        for number, (tile, batch) in enumerate(tiles):
            row, column = divmod(number, COLUMNS)
            x = MARGIN + column * (cell + MARGIN)
            y = top + row * (SIDE + TITLE + MARGIN)
            for place, picture in enumerate(pictures_of(batch)):
                sheet.paste(thumbnail(picture), (x + place * SIDE, y))
            name = cut(Path(paths[tile.visit.index]).name, 28)
            draw.text((x, y + SIDE), f"{visible(name)}  {tile.value:.2f}", fill="black", font=font)
        top += count * (SIDE + TITLE + MARGIN)
    return sheet


def pictures_of(batch: Batch) -> list[Tensor]:
    """LQ and GT `(3, h, w)` of a batch of one, of a clip the frame in the middle."""
    found: list[Tensor] = []
    for picture in (batch.lq, batch.gt):
        if picture is not None:
            frames = picture.detach().float().flatten(0, -4)
            found.append(frames[len(frames) // 2].cpu())
    return found


def thumbnail(picture: Tensor) -> Image.Image:
    """As large as the sheet wants it, with pixels that can be seen where it is enlarged."""
    mode = "nearest" if picture.shape[-1] <= SIDE else "bicubic"
    fitted = to_uint8(resize(picture[None], (SIDE, SIDE), mode).clamp(0, 1))[0]
    return Image.fromarray(fitted.permute(1, 2, 0).contiguous().numpy())
