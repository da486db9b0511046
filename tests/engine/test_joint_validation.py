"""Which pictures each of several processes judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from tests.engine.test_classify import make_stripes
from tests.support import make_pairs
from traiNNer.data import ImageFolderDataset, PairedImageDataset
from traiNNer.engine.class_validation import ClassValidator
from traiNNer.engine.joint_validation import own_part, parts_of_all
from traiNNer.engine.tracker import Tracker
from traiNNer.engine.validation import Exhibition, Validator, ValSet
from traiNNer.metrics.psnr_ssim import PSNR
from traiNNer.utils.errors import StopRequested
from traiNNer.utils.registry import METRICS
from traiNNer.utils.team import Team, Votes


@dataclass
class Named:
    """As much of a dataset as is asked for."""

    lq_paths: list[str]
    target: Literal["all", "center"] | None = None

    def __len__(self) -> int:
        return len(self.lq_paths)


def parts_of(images: Any, size: int, shown: int) -> list[list[int]]:
    return [list(own_part(images, Team(rank, size), shown)) for rank in range(size)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 6, 100])
@pytest.mark.parametrize("shown", [0, 4, 30])
def test_each_picture_is_judged_once_and_the_shown_ones_first(
    size: int, count: int, shown: int
) -> None:
    parts = parts_of(Named([f"{n}.png" for n in range(count)]), size, shown)
    assert list(chain(*parts)) == list(range(count))
    assert parts[0][:shown] == list(range(min(shown, count)))
    if shown * size <= count:
        lengths = [len(part) for part in parts]
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("size", [2, 3, 4, 5])
@pytest.mark.parametrize("lengths", [[10], [1, 9], [3, 3, 3], [2, 5, 1, 1, 7, 2], [1] * 9])
def test_no_scene_is_cut(size: int, lengths: Sequence[int]) -> None:
    paths = [
        f"scene{scene}/{frame}.png"
        for scene, length in enumerate(lengths)
        for frame in range(length)
    ]
    parts = parts_of(Named(paths, "center"), size, 1)
    assert list(chain(*parts)) == list(range(len(paths)))
    scenes = [{paths[index].split("/")[0] for index in part} for part in parts]
    assert sum(map(len, scenes)) == len(lengths)


class Others(Team):
    """A team whose other process says what it was told to say."""

    def __init__(self, votes: Votes) -> None:
        super().__init__(0, 2)
        self.votes = votes

    def vote(self, *values: float, wants_end: bool = False) -> Votes:
        ends = wants_end or self.votes.wants_end
        return Votes(ends, [values, *self.votes.values])

    def share(self, value: Any) -> list[Any]:
        return [value, "other"]


def test_parts_are_those_of_all() -> None:
    others = Others(Votes(False, [[0.0]]))
    assert parts_of_all(others, "own", wants_end=False) == ["own", "other"]
    assert parts_of_all(Team(), "own", wants_end=False) == ["own"]


def test_a_set_that_one_could_not_judge_is_left_out_by_all() -> None:
    failing = Others(Votes(False, [[1.0]]))
    assert parts_of_all(failing, "own", wants_end=False) is None
    assert parts_of_all(Others(Votes(False, [[0.0]])), None, wants_end=False) is None


@pytest.mark.parametrize(("own", "other"), [(True, False), (False, True)])
def test_a_wish_to_end_is_everyones(own: bool, other: bool) -> None:
    with pytest.raises(StopRequested):
        parts_of_all(Others(Votes(other, [[0.0]])), "own", wants_end=own)


class OneOfTwo(Team):
    """A process of two, of which the other has judged its part before."""

    def __init__(self, rank: int, of_other: list[Any]) -> None:
        super().__init__(rank, 2)
        self.of_other = of_other
        self.shared: list[Any] = []

    def vote(self, *values: float, wants_end: bool = False) -> Votes:
        return Votes(wants_end, [values, values])

    def share(self, value: Any) -> list[Any]:
        self.shared.append(value)
        return [value, *self.of_other]


def enlarge(lq: Tensor) -> Tensor:
    return lq.repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_scores_are_those_of_one_process(tmp_path: Path) -> None:
    root = make_pairs(tmp_path, count=5, lq_size=16)
    sets = {"val": ValSet(PairedImageDataset(2, str(root / "gt"), str(root / "lq")))}

    def judged(team: Team) -> Any:
        shows_none = Exhibition(Tracker(None))
        metrics = {"psnr": PSNR(scale=2)}
        validator = Validator(sets, metrics, torch.device("cpu"), shows_none, team)
        return validator.run(enlarge, 1, lambda: False)

    second = OneOfTwo(1, [])
    judged(second)
    together = judged(OneOfTwo(0, second.shared))
    assert together == judged(Team())
    assert len(together[0].images) == 5


def test_classes_are_those_of_one_process(tmp_path: Path) -> None:
    images = ImageFolderDataset(1, str(make_stripes(tmp_path, count=35)))

    def told(pictures: Tensor) -> Tensor:
        return pictures.mean(dim=(-1, -2))[:, :2].softmax(dim=1)

    def judged(team: Team) -> Any:
        metrics = {"accuracy": METRICS["accuracy"](scale=1)}
        sets = {"val": ValSet(images)}
        validator = ClassValidator(sets, metrics, 32, Tracker(None), team)
        return validator.run(told, 1, lambda: False)

    second = OneOfTwo(1, [])
    judged(second)
    together = judged(OneOfTwo(0, second.shared))
    assert together == judged(Team())
    assert 0 < together[0].complete_means["accuracy"] < 1
