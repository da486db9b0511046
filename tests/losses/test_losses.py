"""The contract of every registered loss of two images, and reference values."""

from __future__ import annotations

import inspect
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import skimage.color
import skimage.data
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)
from torchvision import models

from traiNNer.losses.color import lab
from traiNNer.losses.contextual import contextual_similarity
from traiNNer.losses.distributions import directions, sliced_wasserstein
from traiNNer.losses.ms_ssim import MSSSIMLoss
from traiNNer.losses.pixel import CharbonnierLoss
from traiNNer.ops.color import rgb_to_y
from traiNNer.utils.errors import DataError, OptionsError
from traiNNer.utils.registry import LOSSES


@cache
def weights_of(backbone: str) -> str:
    """A file of random weights, as torchvision would have it."""
    torch.manual_seed(0)
    network = models.get_model(backbone, weights=None)
    path = Path(tempfile.mkdtemp()) / f"{backbone}.pth"
    torch.save(network.state_dict(), path)
    return str(path)


@cache
def features_of(backbone: str) -> str:
    """A file of random weights of a backbone's features, which are the smaller part of it."""
    torch.manual_seed(0)
    with torch.device("meta"):
        features = models.get_model(backbone, weights=None).features
    features.to_empty(device="cpu")
    for module in features:
        if isinstance(module, torch.nn.Conv2d):
            module.reset_parameters()
    path = Path(tempfile.mkdtemp()) / f"{backbone}.pth"
    state = features.state_dict()
    torch.save({f"features.{key}": value for key, value in state.items()}, path)
    return str(path)


def arguments_of(name: str) -> dict[str, Any]:
    """What an entry is built with where its defaults need something that is not there."""
    if name == "lpips":
        return {"backbone": "alexnet", "weights": features_of("alexnet")}
    if name == "dists":
        return {"weights": features_of("vgg16")}
    if name == "contextual":
        layers = {"conv1_1": 1.0, "conv2_1": 0.5}
        return {"backbone": "vgg11", "weights": features_of("vgg11"), "layers": layers}
    if name == "fdl":
        return {"backbone": "vgg11", "weights": features_of("vgg11"), "projections": 8}
    if name != "perceptual":
        return {}
    layers = {"features.0": 1.0, "features.3": 0.5}
    return {"backbone": SMALL, "layers": layers, "weights": weights_of(SMALL)}


# The smallest network of torchvision that has convolutions alone at its beginning.
SMALL = "squeezenet1_1"


def takes_a_pair(name: str) -> bool:
    """Whether an entry is called with an output and a target, and nothing else."""
    return list(inspect.signature(LOSSES[name].forward).parameters) == ["self", "sr", "gt"]


PAIR_LOSSES = [name for name in LOSSES if takes_a_pair(name)]


def build(name: str) -> torch.nn.Module:
    return LOSSES[name](**arguments_of(name))


def photo(size: int = 64) -> Tensor:
    """(2, 3, size, size), two parts of a photograph."""
    image = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1) / 255
    return torch.stack(
        (image[:, :size, 150 : 150 + size], image[:, 200 : 200 + size, 200 : 200 + size])
    )


def noise(image: Tensor, sigma: float, seed: int = 0) -> Tensor:
    return image + sigma * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))


def inputs() -> dict[str, tuple[Tensor, Tensor]]:
    """Outputs and targets on which training must not stumble."""
    random = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    return {
        "noisy": (noise(photo(), 0.1), photo()),
        "equal": (photo(), photo()),
        "black": (torch.zeros_like(random), torch.zeros_like(random)),
        "flat on flat": (torch.full_like(random, 0.3), torch.full_like(random, 0.8)),
        "flat on photograph": (torch.full_like(random, 0.5), photo()),
        "random": (random, random.flip(-1)),
        "negative of the target": (1 - photo(), photo()),
        "overshoot": (3 * random - 1, photo()),
    }


def test_the_pixel_losses_are_covered():
    assert {"l1", "mse", "charbonnier", "ms_ssim"} <= set(PAIR_LOSSES)


@pytest.mark.parametrize("name", PAIR_LOSSES)
class TestContract:
    def test_zero_on_equals(self, name):
        value = build(name)(photo(), photo()).item()
        if name == "contextual":
            # A feature that has its like beside it is not meant for one place alone.
            assert 0 <= value < build(name)(noise(photo(), 0.02), photo()).item() / 4
            return
        assert value == pytest.approx(0, abs=1e-6)

    def test_positive_and_growing_otherwise(self, name):
        loss = build(name)
        little, much = (loss(noise(photo(), sigma), photo()).item() for sigma in (0.02, 0.2))
        assert 1e-7 < little < much

    @pytest.mark.parametrize("case", list(inputs()))
    def test_finite_value_and_gradient(self, name, case):
        sr, gt = inputs()[case]
        sr.requires_grad_()
        value = build(name)(sr, gt)
        assert value.shape == ()
        value.backward()
        assert value.isfinite()
        assert sr.grad is not None
        assert sr.grad.isfinite().all()

    def test_float32_also_under_autocast(self, name):
        loss = build(name)
        sr = noise(photo(), 0.1).bfloat16()
        gt = photo()
        expected = loss(sr.float(), gt)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(sr.requires_grad_(), gt)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(expected.item(), rel=1e-5)
        value.backward()
        assert sr.grad is not None
        assert sr.grad.dtype == torch.bfloat16

    def test_step_downhill(self, name):
        loss = build(name)
        sr = noise(photo(), 0.1).requires_grad_()
        gt = photo()
        before = loss(sr, gt)
        (gradient,) = torch.autograd.grad(before, sr)
        after = loss(sr.detach() - 0.01 * gradient / gradient.abs().max(), gt)
        assert after < before

    def test_other_shapes_are_refused(self, name):
        with pytest.raises(
            DataError,
            match=r"output \(1, 3, 32, 32\) and the target \(1, 1, 32, 32\) differ in shape",
        ):
            build(name)(torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32))

    def test_arguments_are_documented(self, name):
        entry = LOSSES[name]
        text = inspect.getdoc(entry) or ""
        for argument, parameter in inspect.signature(entry).parameters.items():
            assert parameter.annotation is not inspect.Parameter.empty
            assert f"\n    {argument}: " in text


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("L1Loss", "l1"),
        ("MSELoss", "mse"),
        ("l2", "mse"),
        ("l2loss", "mse"),
        ("CharbonnierLoss", "charbonnier"),
        ("mssim", "ms_ssim"),
        ("mssimloss", "ms_ssim"),
        ("msssimloss", "ms_ssim"),
        ("ms_ssim_loss", "ms_ssim"),
        ("MSSSIM", "ms_ssim"),
    ],
)
def test_aliases(spelling, name):
    assert LOSSES.canonical(spelling) == name


def test_pixel_values():
    sr, gt = (
        torch.tensor([0.1, 0.5]).reshape(1, 1, 1, 2),
        torch.tensor([0.4, 0.4]).reshape(1, 1, 1, 2),
    )
    assert build("l1")(sr, gt).item() == pytest.approx(0.2)
    assert build("mse")(sr, gt).item() == pytest.approx(0.05)
    expected = ((0.09 + 0.01) ** 0.5 + 0.02**0.5) / 2 - 0.1
    assert CharbonnierLoss(eps=0.1)(sr, gt).item() == pytest.approx(expected)


def test_charbonnier_needs_an_eps():
    with pytest.raises(OptionsError, match="eps must be above 0, got 0"):
        CharbonnierLoss(eps=0)


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("size", [176, 192])
def test_ms_ssim_equals_torchmetrics(sigma, size):
    gt = photo(size)
    sr = noise(gt, sigma)
    expected = 1 - multiscale_structural_similarity_index_measure(sr, gt, data_range=1.0)
    assert MSSSIMLoss()(sr, gt).item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("size", [11, 64])
def test_ssim_equals_scikit_image(sigma: float, size: int) -> None:
    sr = noise(photo(size), sigma)[:1]
    gt = photo(size)[:1]
    expected = structural_similarity(
        sr[0].numpy(),
        gt[0].numpy(),
        channel_axis=0,
        data_range=1.0,
        gaussian_weights=True,
        use_sample_covariance=False,
    )
    assert 1 - LOSSES["ssim"]()(sr, gt).item() == pytest.approx(expected, abs=5e-5)


def test_ncc_is_the_correlation_and_blind_to_contrast() -> None:
    sr = noise(photo(), 0.1)
    channels = zip(sr.flatten(0, 1).flatten(1), photo().flatten(0, 1).flatten(1), strict=True)
    expected = np.mean([np.corrcoef(ours, theirs)[0, 1] for ours, theirs in channels])
    loss = LOSSES["ncc"]()
    assert 1 - loss(sr, photo()).item() == pytest.approx(float(expected), abs=1e-4)
    assert loss(0.5 * photo() + 0.2, photo()).item() == pytest.approx(0, abs=1e-3)
    assert loss(1 - photo(), photo()).item() == pytest.approx(2, abs=1e-3)


def test_gradient_variance_is_that_of_sobel_in_patches() -> None:
    sr = noise(photo(26), 0.1)

    def variances(picture: Tensor) -> np.ndarray:
        luma = rgb_to_y(picture)[0, 0].numpy().astype(np.float64)
        found: list[float] = []
        for axis in (1, 0):
            gradient = scipy.ndimage.sobel(luma, axis)[1:-1, 1:-1]
            for top in range(0, 24, 8):
                for left in range(0, 24, 8):
                    found.append(gradient[top : top + 8, left : left + 8].var(ddof=1))
        return np.array(found)

    expected = np.square(variances(sr[:1]) - variances(photo(26)[:1])).mean()
    value = LOSSES["gradient_variance"]()(sr[:1], photo(26)[:1]).item()
    assert value == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(("size", "weights"), [(88, 4), (87, 3), (64, 3), (43, 2)])
def test_ms_ssim_of_small_images_uses_the_scales_that_fit(size, weights):
    gt = photo(size)
    sr = noise(gt, 0.05)
    full = (0.0448, 0.2856, 0.3001, 0.2363)[:weights]
    expected = 1.0
    fine_sr = sr.double()
    fine_gt = gt.double()
    for index, weight in enumerate(full):
        ssim, contrast = structural_similarity_index_measure(
            fine_sr, fine_gt, data_range=1.0, return_contrast_sensitivity=True, reduction="none"
        )
        expected = expected * (ssim if index == weights - 1 else contrast) ** (weight / sum(full))
        fine_sr, fine_gt = (
            torch.nn.functional.avg_pool2d(image, 2) for image in (fine_sr, fine_gt)
        )
    assert MSSSIMLoss()(sr, gt).item() == pytest.approx(1 - expected.mean().item(), abs=1e-5)


@pytest.mark.gpu
def test_ms_ssim_is_not_computed_in_tensorfloat():
    gt = 0.8 + 0.02 * photo(192)
    sr = noise(gt, 0.002).to(memory_format=torch.channels_last)
    loss = MSSSIMLoss()
    assert loss(sr.cuda(), gt.cuda()).item() == pytest.approx(loss(sr, gt).item(), abs=1e-5)


def test_ms_ssim_works_down_to_one_window():
    assert 0 < MSSSIMLoss()(noise(photo(11), 0.1), photo(11)).item() < 1
    with pytest.raises(DataError, match="at least 11x11 pixels, got 10x10; use a larger lq_size"):
        MSSSIMLoss()(photo(10), photo(10))


def test_ms_ssim_adds_nothing_to_checkpoints():
    assert not MSSSIMLoss().state_dict()


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_the_smallest_patch_is_told_truly(name: str) -> None:
    loss = build(name)
    side = getattr(loss, "min_side", 1)
    patch = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert loss(patch, patch.flip(-1)).isfinite()
    if side > 1:
        smaller = patch[..., 1:, :]
        with pytest.raises(DataError, match=f"at least {side}x{side} pixels"):
            loss(smaller, smaller)


def test_variation_beyond_the_targets_counts() -> None:
    gt = photo(32)
    sr = noise(gt, 0.05)
    across = (np.abs(np.diff(sr.numpy(), axis=3)), np.abs(np.diff(gt.numpy(), axis=3)))
    down = (np.abs(np.diff(sr.numpy(), axis=2)), np.abs(np.diff(gt.numpy(), axis=2)))
    excess = sum(np.maximum(made - wanted, 0).mean() for made, wanted in (across, down))
    assert LOSSES["tv"]()(sr, gt).item() == pytest.approx(float(excess), rel=1e-5)
    whole = sum(made.mean() for made, _ in (across, down))
    assert LOSSES["tv"](absolute=True)(sr, gt).item() == pytest.approx(float(whole), rel=1e-5)
    # A smooth output of a lively target is no artifact.
    assert LOSSES["tv"]()(torch.full_like(gt, 0.5), gt).item() == 0


def test_artifacts_weigh_by_the_residuals_variance() -> None:
    sr, gt = noise(photo(24), 0.1), photo(24)
    residual = (gt - sr).abs().sum(1).double().numpy()
    weights = np.empty_like(residual)
    for picture, values in enumerate(residual):
        padded = np.pad(values, 3, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7))
        weights[picture] = windows.var(axis=(2, 3), ddof=1) * values.var(ddof=1) ** 0.2
    expected = (weights[:, None] * (sr - gt).abs().double().numpy()).mean()
    assert LOSSES["ldl"]()(sr, gt).item() == pytest.approx(float(expected), rel=1e-4)
    # The same error, all in one place, is an artifact.
    patch = gt.clone()
    patch[:, :, 8:14, 8:14] += 0.5
    even = gt + 0.5 * 36 / 24**2
    assert LOSSES["ldl"]()(patch, gt) > 10 * LOSSES["ldl"]()(even, gt)


def test_lab_is_that_of_scikit_image() -> None:
    pictures = photo(32)
    expected = skimage.color.rgb2lab(pictures.permute(0, 2, 3, 1).double().numpy())
    torch.testing.assert_close(
        lab(pictures).permute(0, 2, 3, 1).double(), torch.from_numpy(expected), atol=0.02, rtol=1e-3
    )


def test_consistency_sees_colour_and_brightness_and_no_detail() -> None:
    loss = LOSSES["consistency"]()
    gt = photo()
    brighter = loss((gt + 0.05).clamp(0, 1), gt).item()
    detail = loss(noise(gt, 0.05).clamp(0, 1), gt).item()
    assert brighter > 4 * detail
    # Flat pictures are their own blur: the formula itself.
    dark, light = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    wanted = [skimage.color.rgb2lab(np.full((1, 1, 3), value))[0, 0, 0] for value in (0.2, 0.6)]
    expected = (wanted[1] - wanted[0]) / 100
    assert loss(light, dark).item() == pytest.approx(expected, abs=1e-3)


def test_distances_of_distributions_are_those_along_each_direction() -> None:
    first, second = photo(20)[:1], photo(20)[1:]
    kernels = directions(5, 3, 3)
    patches = [
        np.lib.stride_tricks.sliding_window_view(picture[0].numpy(), (3, 3), axis=(1, 2))
        .transpose(1, 2, 0, 3, 4)
        .reshape(-1, 27)
        for picture in (first, second)
    ]
    distances = [
        scipy.stats.wasserstein_distance(patches[0] @ kernel, patches[1] @ kernel)
        for kernel in kernels.flatten(1).numpy()
    ]
    value = sliced_wasserstein(first, second, kernels).item()
    assert value == pytest.approx(float(np.mean(distances)), rel=1e-4)


def test_contextual_similarity_is_that_of_the_formula() -> None:
    """Feature by feature, in NumPy."""
    draw = np.random.default_rng(0)
    made, wanted = draw.normal(size=(2, 6, 7))
    center = wanted.mean(1, keepdims=True)
    lengths = [np.linalg.norm(each - center, axis=0) for each in (made, wanted)]
    found = np.zeros((7, 7))
    for i in range(7):
        first = (made[:, i] - center[:, 0]) / lengths[0][i]
        distances = np.array(
            [1 - first @ (wanted[:, j] - center[:, 0]) / lengths[1][j] for j in range(7)]
        )
        affinities = np.exp((1 - distances / (distances.min() + 1e-5)) / 0.3)
        found[i] = affinities / affinities.sum()
    sets = (torch.from_numpy(each)[None].float() for each in (made, wanted))
    value = contextual_similarity(*sets, 0.3)
    assert value.item() == pytest.approx(found.max(0).mean(), rel=1e-4)


@pytest.mark.parametrize("name", ["ms_swd", "fdl", "contextual"])
def test_a_shift_costs_distributions_little(name: str) -> None:
    # Wide borders, so that nothing comes in from outside.
    gt = torch.nn.functional.pad(photo(64), [24] * 4, value=0.5)
    shifted = gt.roll(4, -1)
    blurred = torch.nn.functional.avg_pool2d(gt, 3, 1, 1, count_include_pad=False)
    loss, pixels = build(name), LOSSES["l1"]()
    # To pixels a shift is worse than a blur, to distributions it is not.
    assert pixels(shifted, gt) > 2 * pixels(blurred, gt)
    assert loss(shifted, gt) < loss(blurred, gt)
    if name == "ms_swd":
        # Windows of two scales lie within the borders, and find the same patches elsewhere.
        assert LOSSES[name](scales=2)(shifted, gt) < 1e-6
