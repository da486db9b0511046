"""Which pictures each of several processes judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import pytest

from traiNNer.engine.joint_validation import own_part, scores_of_all
from traiNNer.engine.scoring import ImageScore
from traiNNer.utils.errors import StopRequested
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
        self.other = ([ImageScore("b", {"psnr": 2.0})], {"psnr": 1})

    def vote(self, *values: float, wants_end: bool = False) -> Votes:
        ends = wants_end or self.votes.wants_end
        return Votes(ends, [values, *self.votes.values])

    def share(self, value: Any) -> list[Any]:
        return [value, self.other]


def test_scores_and_failures_are_those_of_all() -> None:
    own = [ImageScore("a", {"psnr": 1.0})]
    judged = scores_of_all(
        Others(Votes(False, [[0.0]])), own, Counter({"psnr": 2, "ssim": 1}), wants_end=False
    )
    assert judged is not None
    scores, failed = judged
    assert [score.name for score in scores] == ["a", "b"]
    assert failed == {"psnr": 3, "ssim": 1}


def test_a_set_that_one_could_not_judge_is_left_out_by_all() -> None:
    failing = Others(Votes(False, [[1.0]]))
    assert scores_of_all(failing, [], Counter(), wants_end=False) is None
    assert scores_of_all(Others(Votes(False, [[0.0]])), None, Counter(), wants_end=False) is None


@pytest.mark.parametrize(("own", "other"), [(True, False), (False, True)])
def test_a_wish_to_end_is_everyones(own: bool, other: bool) -> None:
    with pytest.raises(StopRequested):
        scores_of_all(Others(Votes(other, [[0.0]])), [], Counter(), wants_end=own)
