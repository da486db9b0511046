"""What a loss needs of a patch is known before anything is read, and to whoever chooses sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from tests.support import small_options, write_options
from traiNNer.losses.pixel import PairLoss
from traiNNer.options.loading import load_options
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.bounds import shape_bounds
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import LOSSES


class Far(PairLoss):
    """Compares pixels that are `distance` apart.

    Args:
        distance: in pixels.
    """

    def __init__(self, distance: int = 4) -> None:
        super().__init__()
        self.distance = distance

    @property
    def min_side(self) -> int:
        return self.distance + 1

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        return (sr[..., self.distance :] - gt[..., : -self.distance]).abs().mean()


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    LOSSES.add("far", Far)
    yield
    LOSSES.remove("far")


def load(tmp_path: Path, *losses: dict[str, Any], lq_size: int) -> TrainingOptions:
    options = small_options(tmp_path)
    options["train"]["losses"] = list(losses)
    options["datasets"]["train"]["lq_size"] = lq_size
    return load_options(TrainingOptions, write_options(tmp_path / "o.yml", options))


def test_a_patch_that_is_too_small_for_a_loss_is_refused_with_its_line(tmp_path: Path) -> None:
    words = r"o\.yml:\d+: datasets\.train\.lq_size = 5: the loss ms_ssim needs at least 6"
    with pytest.raises(OptionsError, match=words):
        load(tmp_path, {"type": "l1"}, {"type": "ms_ssim"}, lq_size=5)
    assert load(tmp_path, {"type": "ms_ssim"}, lq_size=6).smallest_patch == (6, "the loss ms_ssim")


def test_arguments_decide(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="the loss far needs at least 11 at scale 2"):
        load(tmp_path, {"type": "far", "distance": 20}, lq_size=10)
    assert load(tmp_path, {"type": "far"}, lq_size=10).smallest_patch == (3, "the loss far")


def test_a_loss_that_refuses_its_arguments_is_a_problem_with_its_line(tmp_path: Path) -> None:
    words = r"o\.yml:\d+: train\.losses\.0.*eps must be above 0"
    with pytest.raises(OptionsError, match=words):
        load(tmp_path, {"type": "charbonnier", "eps": 0.0}, lq_size=10)


def test_no_automation_goes_below_it(tmp_path: Path) -> None:
    options = load(tmp_path, {"type": "far", "distance": 20}, lq_size=16)
    bounds = shape_bounds(options, 64, 12)
    assert bounds.ladder[0] == 11
    assert bounds.min_lq_due_to == "the loss far"
    assert shape_bounds(load(tmp_path, {"type": "l1"}, lq_size=16), 64, 12).ladder[0] == 1
