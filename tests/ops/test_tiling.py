from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from traiNNer.ops.tiling import tiled_forward
from traiNNer.utils.errors import OptionsError


class PointNetwork(nn.Module):
    """Receptive field of one pixel: a colour mix, then nearest upscaling. Notes the sizes that it
    was given.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.seen: set[tuple[int, ...]] = set()

    def forward(self, image: Tensor) -> Tensor:
        self.seen.add(tuple(image.shape[-2:]))
        mixed = 0.7 * image + 0.3 * image.flip(1)
        return mixed.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


def conv_network(reach: int, scale: int = 2) -> nn.Sequential:
    """Zero-padded convolutions that together see `reach` pixels to each side, and sub-pixel
    upscaling.
    """
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    for index in range(reach):
        last = index == reach - 1
        conv = nn.Conv2d(3 if index == 0 else 8, 3 * scale**2 if last else 8, 3, padding=1)
        nn.init.normal_(conv.weight, std=0.15, generator=generator)
        layers += [conv] if last else [conv, nn.ReLU()]
    return nn.Sequential(*layers, nn.PixelShuffle(scale)).eval().requires_grad_(False)


SIZES = [(1, 1), (3, 50), (17, 23), (32, 32), (37, 61)]


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("tile_size", "overlap", "multiple", "minimum"),
    [
        (None, 0, 1, 1),
        (None, 8, 8, 16),
        (64, 8, 1, 1),
        (16, 0, 1, 1),
        (16, 4, 1, 1),
        (16, 5, 4, 1),
        (15, 8, 8, 1),
        (9, 7, 1, 1),
        (8, 4, 1, 20),
        (7, 1, 3, 1),
    ],
)
def test_exact_for_a_network_of_one_pixel(scale, size, tile_size, overlap, multiple, minimum):
    network = PointNetwork(scale)
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    result = tiled_forward(
        network,
        image,
        scale=scale,
        tile_size=tile_size,
        overlap=overlap,
        size_multiple=multiple,
        min_size=minimum,
    )
    assert len(network.seen) == 1, "tiles differ in size"
    assert all(side % multiple == 0 and side >= minimum for side in network.seen.pop())
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, network(image), atol=3e-7, rtol=0)


@pytest.mark.parametrize(
    ("reach", "tile_size", "overlap"), [(1, 16, 4), (2, 16, 8), (3, 24, 12), (4, 24, 17)]
)
@pytest.mark.parametrize("size", [(37, 45), (20, 70)], ids=str)
@pytest.mark.parametrize("scale", [1, 3])
def test_equals_the_whole_when_the_network_reaches_a_quarter_of_the_overlap(
    reach, tile_size, overlap, size, scale
):
    network = conv_network(reach, scale)
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    whole = tiled_forward(network, image, scale=scale, tile_size=None, overlap=0)
    torch.testing.assert_close(whole, network(image))
    tiled = tiled_forward(network, image, scale=scale, tile_size=tile_size, overlap=overlap)
    torch.testing.assert_close(tiled, whole, atol=1e-6, rtol=0)


def test_longer_reach_differs_only_in_the_overlaps_and_less_the_larger_they_are():
    network = conv_network(4)
    image = torch.rand(1, 3, 40, 64, generator=torch.Generator().manual_seed(3))
    whole = network(image)
    errors = [
        (tiled_forward(network, image, scale=2, tile_size=32, overlap=overlap) - whole).abs()
        for overlap in (2, 8, 12)
    ]
    assert errors[0].max() > errors[1].max() > errors[2].max() > 0
    # Rows start at 0 and 8 and columns at 0, 24 and 32: far from those edges there is no
    # difference.
    assert errors[1][..., :, : (24 - 4) * 2][..., : (8 - 4) * 2, :].max() < 1e-6


def test_tiles_start_at_multiples():
    """A network that works in cells of four pixels divides the image as it does untiled."""

    def cells(image: Tensor) -> Tensor:
        return F.avg_pool2d(image, 4).repeat_interleave(4, -1).repeat_interleave(4, -2)

    image = torch.rand(1, 3, 44, 60)
    tiled = tiled_forward(cells, image, scale=1, tile_size=18, overlap=6, size_multiple=4)
    torch.testing.assert_close(tiled, cells(image), atol=3e-7, rtol=0)


def test_pads_by_reflection_and_by_replication_where_the_side_is_short():
    seen: list[Tensor] = []

    def network(image: Tensor) -> Tensor:
        seen.append(image)
        return image

    image = torch.arange(10.0).reshape(1, 1, 2, 5)
    result = tiled_forward(network, image, scale=1, tile_size=None, overlap=0, min_size=8)
    assert torch.equal(result, image)
    assert seen[0][0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert seen[0][0, 0, :, 0].tolist() == [0, 5, 5, 5, 5, 5, 5, 5]


def test_half_precision_network_gives_float32_and_input_is_untouched():
    image = torch.rand(1, 3, 20, 20)
    before = image.clone()
    result = tiled_forward(
        lambda tile: tile.bfloat16(),
        image,
        scale=1,
        tile_size=8,
        overlap=2,
        device=torch.device("cpu"),
    )
    assert result.dtype == torch.float32
    assert torch.equal(image, before)
    torch.testing.assert_close(result, image, atol=4e-3, rtol=0)


@pytest.mark.gpu
def test_image_stays_in_main_memory():
    device = torch.device("cuda")
    network = conv_network(2).to(device).double()
    image = torch.rand(1, 3, 50, 70, dtype=torch.float64)
    result = tiled_forward(network, image, scale=2, tile_size=24, overlap=8, device=device)
    assert result.device.type == "cpu"
    torch.testing.assert_close(result, network(image.to(device)).float().cpu(), atol=1e-6, rtol=0)


def test_messages():
    image = torch.rand(1, 3, 20, 20)
    network = PointNetwork(1)
    with pytest.raises(
        OptionsError,
        match=r"overlap of 8 does not fit tiles of 8 LQ pixels: it must be from 0 to 7",
    ):
        tiled_forward(network, image, scale=1, tile_size=8, overlap=8)
    with pytest.raises(
        OptionsError, match=r"from 0 to 4 \(the tile less the network's size multiple of 4\)"
    ):
        tiled_forward(network, image, scale=1, tile_size=7, overlap=6, size_multiple=4)
    with pytest.raises(OptionsError, match=r"tile_size must be at least 1 LQ pixel, got 0"):
        tiled_forward(network, image, scale=1, tile_size=0, overlap=0)
    with pytest.raises(ValueError, match=r"at scale 2 the last two sides should be 40x40"):
        tiled_forward(network, image, scale=2, tile_size=None, overlap=0)
