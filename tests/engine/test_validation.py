"""A measurement that fails is said and missing; it ends nothing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from tests.support import make_pairs, run_training, small_options
from traiNNer.data import PairedImageDataset
from traiNNer.engine.checkpoints import read_state
from traiNNer.engine.mishaps import Mishaps
from traiNNer.engine.scoring import (
    STRIP_SIDE,
    STRIP_ZOOM,
    ImageScore,
    Judge,
    ValidationResult,
    strip,
)
from traiNNer.engine.tracker import Tracker
from traiNNer.engine.validation import Exhibition, Validator, ValSet
from traiNNer.metrics.psnr_ssim import PSNR
from traiNNer.ops.resize import resize
from traiNNer.utils.errors import DataError
from traiNNer.utils.registry import METRICS

CPU = torch.device("cpu")


class Fails:
    """A metric that raises what it is given at every call from `first` on."""

    better: ClassVar[Literal["higher", "lower"]] = "higher"
    unit: ClassVar[str] = ""
    temporal: ClassVar[bool] = False
    min_side: ClassVar[int] = 1

    def __init__(self, error: BaseException, first: int = 0) -> None:
        self.error = error
        self.first = first
        self.calls = 0

    def __call__(self, sr: Tensor, gt: Tensor) -> float:
        self.calls += 1
        if self.calls > self.first:
            raise self.error
        return 1.0


def enlarge(lq: Tensor) -> Tensor:
    return lq.repeat_interleave(2, -1).repeat_interleave(2, -2)


def validate(
    root: Path, upscale: Any = enlarge, save_to: Path | None = None, **metrics: Any
) -> list[ValidationResult] | None:
    make_pairs(root, count=3, lq_size=16)
    dataset = PairedImageDataset(2, str(root / "gt"), str(root / "lq"))
    exhibition = Exhibition(Tracker(None), save_to=save_to)
    sets = {"val": ValSet(dataset)}
    validator = Validator(sets, {"psnr": PSNR(scale=2)} | metrics, CPU, exhibition)
    return validator.run(upscale, 7, lambda: False)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("no such window"), "ValueError: no such window"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried"), "not enough memory"),
        (DataError("too small"), "DataError: too small"),
    ],
)
def test_a_metric_that_fails_is_said_once_and_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, words: str
) -> None:
    with caplog.at_level(logging.INFO):
        results = validate(tmp_path, odd=Fails(error))
    assert results is not None
    assert set(results[0].means) == {"psnr"}
    assert len(results[0].images) == 3
    assert caplog.text.count(words) == 1
    assert "could not be computed: odd of 3" in caplog.text


def test_a_mean_of_some_images_is_not_compared_with_others(tmp_path: Path) -> None:
    results = validate(tmp_path, odd=Fails(ValueError(), first=2))
    assert results is not None
    assert results[0].means["odd"] == 1.0
    assert set(results[0].complete_means) == {"psnr"}


def test_an_image_that_fails_lacks_its_scores_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def upscale(lq: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("a kernel that is missing")
        return enlarge(lq)

    results = validate(tmp_path, upscale)
    assert results is not None
    assert [bool(image.scores) for image in results[0].images] == [True, False, True]
    assert results[0].complete_means == {}
    assert "RuntimeError: a kernel that is missing" in caplog.text


def test_pictures_that_cannot_be_saved_cost_no_score(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    results = validate(tmp_path, save_to=tmp_path / "file" / "below")
    assert results is not None
    assert set(results[0].complete_means) == {"psnr"}
    assert caplog.text.count("saving the image of 000: failed (DiskError") == 1


def test_an_image_that_cannot_be_read_leaves_out_its_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def damage(lq: Tensor) -> Tensor:
        (tmp_path / "lq" / "002.png").unlink(missing_ok=True)
        return enlarge(lq)

    assert validate(tmp_path, damage) == []
    assert "validation on val: failed" in caplog.text


def test_ctrl_c_is_no_mishap(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        validate(tmp_path, odd=Fails(KeyboardInterrupt()))


def test_memory_that_is_elsewhere_is_asked_for() -> None:
    picture = torch.rand(1, 3, 8, 8)
    judge = Judge({"odd": Fails(MemoryError())}, Mishaps(), memory_elsewhere=True)
    with pytest.raises(MemoryError):
        judge(picture, picture, "a.png", frame=False)
    judge = Judge({"odd": Fails(MemoryError())}, Mishaps())
    assert judge(picture, picture, "a.png", frame=False) == {}


class SeesStates(PSNR):
    """PSNR that notes which states are there when it is asked.

    Args:
        scale: factor of the network, given by the program.
    """

    seen: ClassVar[list[list[str]]] = []

    def __init__(self, *, scale: int) -> None:
        super().__init__(scale=scale)

    def __call__(self, sr: Tensor, gt: Tensor) -> float:
        self.seen.append(sorted(path.name for path in Path().glob("**/*.state")))
        raise ValueError("never")


def test_a_checkpoint_is_there_before_its_validation_and_knows_the_best(tmp_path: Path) -> None:
    METRICS.add("sees_states", SeesStates)
    try:
        options = small_options(make_pairs(tmp_path, count=2))
        metrics = {"psnr": {"type": "psnr"}, "odd": {"type": "sees_states"}}
        options["val"] |= {"metrics": metrics, "compare_bicubic": True}
        assert run_training(options) == 0
    finally:
        METRICS.remove("sees_states")
    assert SeesStates.seen[0] == ["3.state"]
    state = read_state(Path("experiments/small/training_states/3.state"))
    assert state["parts"]["checkpoints"]["best"]["iteration"] == 3


def test_an_exact_picture_does_not_decide_the_mean() -> None:
    black = ImageScore("black", {"psnr": float("inf")})
    results = [
        ValidationResult("val", [black, ImageScore("page", {"psnr": psnr})], {})
        for psnr in (30.0, 31.0)
    ]
    assert [result.means["psnr"] for result in results] == [90.0, 90.5]


def test_strips_show_the_place_with_most_detail_enlarged() -> None:
    lq = torch.full((1, 3, 120, 160), 0.5)
    # Detail in the lower right corner, and another picture of the same place.
    lq[..., 80:, 110:] = torch.rand(40, 50, generator=torch.Generator().manual_seed(0))
    gt = resize(lq, (240, 320)).clamp(0, 1)
    sr = gt * 0.9
    shown = strip(lq, sr, gt)
    side = STRIP_SIDE * STRIP_ZOOM
    assert shown.shape == (3, side, 3 * side)
    parts = shown.unfold(2, side, side).unbind(2)
    truth = parts[2][:, ::STRIP_ZOOM, ::STRIP_ZOOM]
    # The place is the same in all, and it is the corner.
    torch.testing.assert_close(parts[1][:, ::STRIP_ZOOM, ::STRIP_ZOOM], truth * 0.9)
    torch.testing.assert_close(truth, gt[0, :, 240 - STRIP_SIDE :, 320 - STRIP_SIDE :])
    assert torch.equal(parts[2][:, 1::STRIP_ZOOM, 2::STRIP_ZOOM], truth)
    assert strip(lq, sr, None).shape == (3, side, 2 * side)
    small = strip(lq[..., :20, :30], sr[..., :40, :60], None, middle=True)
    assert small.shape == (3, 40 * STRIP_ZOOM, 2 * 60 * STRIP_ZOOM)
