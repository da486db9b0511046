"""LQ made of GT by a recipe: what decides it, and what is said when it cannot be made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.support import run_training, small_options, texture
from traiNNer.data import SampleRequest, SingleGtDataset
from traiNNer.data.degrading import DegradationRecipe
from traiNNer.ops.degradations.codecs import H264
from traiNNer.options.degradation_recipes import NAMED_RECIPES
from traiNNer.options.degradations import parse_recipe
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import write_image
from traiNNer.utils.registry import DEGRADATIONS

Capture = pytest.CaptureFixture[str]
SMALL = [
    {"type": "blur", "sigma": [0.3, 1.0], "prob": 0.5},
    {"one_of": [{"type": "gaussian_noise", "weight": 3}, {"type": "salt_and_pepper"}]},
    {"shuffle": [{"type": "to_lq"}, {"type": "jpeg", "quality": [20, 60]}], "repeat": [1, 2]},
]


@pytest.fixture
def gt(tmp_path: Path) -> Path:
    folder = tmp_path / "gt"
    for number, (height, width) in enumerate([(128, 160), (96, 96), (131, 98)]):
        write_image(folder / f"{number}.png", texture(height, width, number))
    write_image(folder / "3.png", texture(96, 96, 9).astype(np.uint16) * 257)
    return folder


def lq_of(dataset: SingleGtDataset, request: SampleRequest) -> Tensor:
    return cast("Tensor", dataset[request].lq)


@pytest.mark.parametrize("recipe", [*NAMED_RECIPES, SMALL])
def test_seed_and_sample_decide(gt: Path, recipe: Any) -> None:
    first = SingleGtDataset(2, str(gt), degradations=recipe)
    second = SingleGtDataset(2, str(gt), degradations=recipe)
    requests = [SampleRequest(seed % 4, (16, 24, 48)[seed % 3], seed) for seed in range(24)]
    once = [lq_of(first, request) for request in requests]
    again = [lq_of(second, request) for request in reversed(requests)][::-1]
    assert all(map(torch.equal, once, again))
    others = [SampleRequest(r.index, r.lq_size, r.seed + 100) for r in requests]
    assert not any(map(torch.equal, once, [lq_of(first, request) for request in others]))
    assert not torch.equal(lq_of(first, SampleRequest(0, 16, 5)), lq_of(first, requests[0]))


def test_whole_pictures_are_degraded_the_same_every_time(gt: Path) -> None:
    dataset = SingleGtDataset(2, str(gt), degradations="realesrgan")
    for index, sides in enumerate([(64, 80), (48, 48), (65, 49), (48, 48)]):
        once, again = (lq_of(dataset, SampleRequest(index, None, seed)) for seed in (1, 2))
        assert once.shape == (3, *sides)
        assert torch.equal(once, again)


@pytest.mark.parametrize("lq_size", [16, 33, 48])
def test_lq_lies_below_gt(gt: Path, lq_size: int) -> None:
    """With steps that leave the picture nearly as it is, whatever the flips and margins are."""
    recipe = [{"type": "jpeg", "quality": 100, "subsampling": ["444"]}]
    degraded = SingleGtDataset(2, str(gt), degradations=recipe, lq_resize_mode="box")
    shrunk = SingleGtDataset(2, str(gt), lq_resize_mode="box")
    for seed in range(40):
        request = SampleRequest(seed % 4, lq_size, seed)
        ours, theirs = degraded[request], shrunk[request]
        assert torch.equal(cast("Tensor", ours.gt), cast("Tensor", theirs.gt))
        lq, plain = cast("Tensor", ours.lq).float(), cast("Tensor", theirs.lq).float()
        plain = plain * 255 if plain.max() <= 1 else plain
        assert (lq - plain).abs().max() <= 3


def test_small_images_are_padded_before(gt: Path) -> None:
    dataset = SingleGtDataset(2, str(gt), degradations=SMALL, small_images="pad")
    dataset.require_lq_size(60)
    assert lq_of(dataset, SampleRequest(1, 60, 3)).shape == (3, 60, 60)


def test_grids_begin_anywhere_in_a_crop(gt: Path) -> None:
    recipe = [{"type": "to_lq"}, {"type": "jpeg", "quality": 5}]
    dataset = SingleGtDataset(2, str(gt), degradations=recipe)
    phases: Counter[int] = Counter()
    for seed in range(200):
        lq = lq_of(dataset, SampleRequest(0, 32, seed)).float().mean(0)
        steps = (lq[:, 1:] - lq[:, :-1]).abs().mean(0)
        strength = [float(steps[phase::8].mean()) for phase in range(8)]
        phases[int(np.argmax(strength))] += 1
    assert len(phases) == 8
    assert max(phases.values()) < 80


def recipe_of(steps: Any, scale: int = 2) -> DegradationRecipe:
    return DegradationRecipe(steps, scale, "bicubic")


def steps_of(recipe: DegradationRecipe, seed: int) -> list[str]:
    frames = (texture(64, 64, 1) / 255).astype(np.float32)[None]
    return [done.step for done in recipe(frames, seed)[1]]


def test_groups_and_probabilities() -> None:
    recipe = recipe_of(SMALL)
    runs = [steps_of(recipe, seed) for seed in range(400)]
    counts = Counter(step for run in runs for step in run)
    assert abs(counts["blur"] - 200) < 50
    assert abs(counts["gaussian_noise"] - 300) < 45
    assert counts["gaussian_noise"] + counts["salt_and_pepper"] == 400
    assert abs(counts["jpeg"] - 600) < 50
    orders = Counter(tuple(s for s in run if s in ("to_lq", "jpeg"))[:2] for run in runs)
    assert abs(orders["to_lq", "jpeg"] - 200) < 50


def test_a_step_draws_the_same_without_the_others() -> None:
    frames = (texture(64, 64, 1) / 255).astype(np.float32)[None]
    noise = {"type": "gaussian_noise", "sigma": [1, 50]}
    with_blur = recipe_of([{"type": "blur", "prob": 1.0}, noise])
    without = recipe_of([{"type": "blur", "prob": 0.0}, noise])
    for seed in range(5):
        (_, done), (_, alone) = with_blur(frames.copy(), seed), without(frames.copy(), seed)
        assert (len(done), len(alone)) == (2, 1)
        assert done[1] == alone[0]


def test_steps_of_a_scale() -> None:
    steps = [{"type": "jpeg"}, {"type": "webp", "scales": [4]}]
    assert steps_of(recipe_of(steps, 2), 0) == ["jpeg"]
    assert steps_of(recipe_of(steps, 4), 0) == ["jpeg", "webp"]


@contextmanager
def registered(name: str, step: Any) -> Iterator[None]:
    DEGRADATIONS.add(name, step)
    try:
        yield
    finally:
        DEGRADATIONS.remove(name)


def test_a_step_that_fails_names_sample_and_parameters(gt: Path) -> None:
    def fail(frames: Any, draws: Any) -> Any:
        draws.between("depth", (2.0, 2.0))
        raise RuntimeError("no more ink")

    said = r"1\.png: .*failing \(depth 2\) failed: no more ink"
    with registered("failing", lambda: fail):
        dataset = SingleGtDataset(2, str(gt), degradations=[{"type": "failing"}])
        with pytest.raises(DataError, match=said):
            dataset[SampleRequest(1, 16, 0)]


class Missing(H264):
    encoder = "libx299"


def test_a_codec_that_is_not_there_is_told_before(gt: Path, capfd: Capture) -> None:
    with registered("missing", Missing):
        assert run_training(options_of(gt, [{"type": "missing"}])) != 0
    assert "this PyAV has no encoder libx299; choose another codec" in capfd.readouterr().err


WRONG: list[tuple[Any, str]] = [
    ("nothing", "no such recipe; there are: realesrgan"),
    ([], "expected a list of steps"),
    ([3], "expected a step"),
    ([{"recipe": "other"}], "no such recipe"),
    ([{"recipe": "realesrgan", "one_of": ["realesrgan"]}], "no steps of its own"),
    ([{"type": "jpg"}], "unknown degradation"),
    ([{"type": "jpeg", "quality": [90, 30]}], "wrong way round: 90 to 30"),
    ([{"type": "jpeg", "quality": 0}], "at least 1 and at most 100"),
    ([{"type": "jpeg", "prob": 1.5}], "less than or equal to 1"),
    ([{"type": "resize", "shares": [0.5, 0.2, 0.1]}], "add up to 0.8 and not to 1"),
    ([{"type": "resize", "modes": ["cubic"]}], "bicubic"),
    ([{"type": "resize", "modes": []}], "at least 1 item"),
    ([{"one_of": ["realesrgan"], "shuffle": ["realesrgan"]}], "exactly one of"),
    ([{"sequence": ["realesrgan"], "repeat": [3, 1]}], "repeat is the wrong way round"),
    ([{"one_of": [{"type": "blur", "weight": 0}]}], "greater than 0"),
]


@pytest.mark.parametrize(("steps", "words"), WRONG)
def test_wrong_recipes_are_refused(steps: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        parse_recipe(steps)


def options_of(gt: Path, recipe: Any) -> dict[str, Any]:
    options = small_options(gt.parent)
    section = {"type": "SingleGtDataset", "dataroot_gt": str(gt), "degradations": recipe}
    options["datasets"] = {
        "train": section | {"lq_size": 16, "batch_size_per_gpu": 2, "num_worker_per_gpu": 1},
        "val": section,
    }
    options["val"] = {"val_freq": 3}
    return options


def test_a_run_trains_on_a_recipe(gt: Path, capfd: Capture) -> None:
    recipe = ["realesrgan", {"sequence": [{"type": "webp"}], "prob": 0.5}]
    assert run_training(options_of(gt, recipe)) == 0
    assert "4 GT images, LQ made of them, 96x96 to 160x128, degraded" in capfd.readouterr().err


def test_a_wrong_recipe_is_told_with_its_place(gt: Path, capfd: Capture) -> None:
    recipe = [{"one_of": [{"type": "jpeg", "quality": [95, 30]}]}, {"type": "gausian_noise"}]
    assert run_training(options_of(gt, recipe)) != 0
    told = capfd.readouterr().err
    assert "datasets.train.degradations.0.one_of.0.quality" in told
    assert "wrong way round" in told
    assert "gaussian_noise" in told
    assert "Traceback" not in told
