"""Results of pictures keep the colours, and on request the transparency, of their sources."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.support import write_options
from tests.utils.test_image_facts import DARK_GREY, WIDE, encode, texture
from traiNNer.archs.facts import NetworkFacts, OpenedNetwork
from traiNNer.data import PairedImageDataset, SingleImageDataset
from traiNNer.inference.failures import Failures
from traiNNer.inference.images import upscale_images
from traiNNer.inference.network import RunningNetwork
from traiNNer.options.loading import load_options
from traiNNer.options.schema import TestOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.images import read_colors, read_picture, write_image
from traiNNer.utils.registry import ARCHS


def upscale(dataset: SingleImageDataset) -> Path:
    """Repeat each pixel of the pictures to 2x2, and return the folder of results."""
    sections = {"test": {"type": "SingleImageDataset", "dataroot_lq": "in"}}
    content = {
        "name": "t", "num_gpu": 0, "datasets": sections, "path": {"pretrain_network_g": "none"},
    }  # fmt: skip
    options = load_options(TestOptions, write_options(Path("t.yml"), content), [])
    facts = NetworkFacts.from_spec(ARCHS["compact"], 2, {})
    opened = OpenedNetwork(nn.Upsample(scale_factor=2), facts)
    network = RunningNetwork.start(opened, options, Runtime(torch.device("cpu")))
    failures = Failures()
    upscale_images("set", dataset, network, options, Path("out"), failures)
    failures.raise_if_any()
    return Path("out")


@pytest.fixture
def folder() -> Path:
    Path("in").mkdir()
    return Path("in")


def test_profile_goes_into_the_result(folder: Path) -> None:
    for kind, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("TIFF", "tif")):
        (folder / f"{kind}.{suffix}").write_bytes(encode(texture(), kind, icc_profile=WIDE))
    dataset = SingleImageDataset(2, "in")
    assert dataset.summary().endswith("3 in colours of wide (taken as they are)")
    results = sorted(upscale(dataset).iterdir())
    assert len(results) == 3
    for path in results:
        with Image.open(path) as image:
            assert image.info["icc_profile"] == WIDE


def test_colors_that_a_result_cannot_keep_are_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grey = texture(1)[..., 0]
    (folder / "a.png").write_bytes(encode(grey, "PNG", icc_profile=DARK_GREY))
    with caplog.at_level(logging.WARNING):
        out = upscale(SingleImageDataset(2, "in"))
    assert "set: the colours of 1 image cannot be written into a colour PNG" in caplog.text
    assert read_colors(out / "a.png").icc == b""


@pytest.mark.parametrize("bits", [8, 16])
def test_alpha_is_kept_on_request(folder: Path, bits: int) -> None:
    stored: Any = texture(4, bits)
    opaque = np.full_like(stored[..., 3], np.iinfo(stored.dtype).max)
    write_image(folder / "a.png", stored[..., :3], alpha=stored[..., 3])
    write_image(folder / "b.png", stored[..., :3], alpha=opaque)
    write_image(folder / "c.png", stored[..., :3])
    dropping = SingleImageDataset(2, "in")
    assert "2 with alpha (dropped)" in dropping.summary()
    assert read_picture(upscale(dropping) / "a.png").alpha is None
    keeping = SingleImageDataset(2, "in", alpha="keep")
    assert "2 with alpha (kept)" in keeping.summary()
    out = upscale(keeping)
    alpha = read_picture(out / "a.png").alpha
    assert alpha is not None
    assert (alpha.shape, alpha.dtype) == ((60, 88), np.uint8)
    # In the mean over each square the enlarged plane is near the one that it was made of.
    squares = alpha.reshape(30, 2, 44, 2).mean((1, 3))
    levels = stored[..., 3] / (1 if bits == 8 else 257)
    assert np.abs(squares - levels).mean() < 4
    np.testing.assert_array_equal(read_picture(out / "b.png").alpha, np.full((60, 88), 255))
    assert read_picture(out / "c.png").alpha is None


def test_pairs_of_unequal_colors_are_said(caplog: pytest.LogCaptureFixture) -> None:
    for side in ("gt", "lq"):
        Path(side).mkdir()
    for name in ("0", "1"):
        Path(f"gt/{name}.png").write_bytes(encode(texture().repeat(2, 0).repeat(2, 1), "PNG"))
        Path(f"lq/{name}.png").write_bytes(encode(texture(), "PNG", icc_profile=WIDE))
    with caplog.at_level(logging.WARNING):
        dataset = PairedImageDataset(2, "gt", "lq")
    assert "GT and LQ of 2 pairs say different colours" in caplog.text
    assert "0.png: GT sRGB, LQ wide" in caplog.text
    assert "2 in colours of wide (taken as they are)" in dataset.summary()
