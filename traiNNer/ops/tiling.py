"""Running a network over an image of any size: padding to what the network takes, and tiles that
fit the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.utils.arithmetic import round_down, round_up
from traiNNer.utils.errors import OptionsError


@dataclass(frozen=True)
class _Axis:
    """How one side of the image is cut."""

    # Of every tile, in LQ pixels: equal sizes let a compiled network be compiled once.
    length: int
    # The first LQ pixel of each tile.
    starts: tuple[int, ...]
    # (tiles, length * scale), float32; at every output pixel the tiles' weights sum to one.
    weights: Tensor


# What the network is, what the tiles are and where they are computed, each with one caller's name.
def tiled_forward(  # noqa: PLR0913
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    scale: int,
    tile_size: int | None,
    overlap: int,
    size_multiple: int = 1,
    min_size: int = 1,
    device: torch.device | None = None,
) -> Tensor:
    """Upscale an image, whole or in overlapping tiles.

    The image is padded at the bottom and the right (reflected; replicated where a side is too short
    for that) to what the network takes; the padding is cropped off the result. Tiles have one size,
    start at multiples of `size_multiple`, and the last of a row or column is shifted inwards.

    Where two tiles overlap by v >= `overlap` LQ pixels, the outer quarter of v, next to each tile's
    edge, is discarded, and a linear ramp over the half between blends the two; weights sum to one,
    and nothing is blended at the image's own edges. So the result equals the untiled one, up to
    rounding, for a network whose receptive field reaches no further than overlap / 4 LQ pixels from
    a pixel. For a longer reach the difference is confined to the overlaps and is what the network's
    far context contributes.

    Memory is of the order of the output, on the image's device, plus one tile's forward on
    `device`. Gradients are the caller's business: call it under `torch.inference_mode()`.

    Args:
        network: maps (B, C, h, w) to (B, C', h * scale, w * scale).
        image: (B, C, H, W), LQ.
        scale: factor between input and output sides.
        tile_size: side of a tile in LQ pixels, rounded up to `size_multiple` and `min_size`; None
            runs the whole image.
        overlap: least overlap of neighbouring tiles in LQ pixels.
        size_multiple: what enters the network has sides that are a multiple of this.
        min_size: what enters the network has sides of at least this many pixels.
        device: where the network is, if that is not where the image is.

    Returns:
        (B, C', H * scale, W * scale), float32, on the image's device.

    Raises:
        OptionsError: if tile size or overlap make no sense.
        ValueError: if the network's output is not of the expected size.
    """
    tile = None
    if tile_size is not None:
        tile = round_up(max(tile_size, min_size), size_multiple)
    _check(tile, tile_size, overlap, size_multiple)
    height, width = image.shape[-2:]
    padded_height = round_up(max(height, min_size), size_multiple)
    padded_width = round_up(max(width, min_size), size_multiple)
    padded = _pad(image, padded_height, padded_width)
    rows = _cut(padded_height, tile, overlap, size_multiple, scale)
    columns = _cut(padded_width, tile, overlap, size_multiple, scale)

    output: Tensor | None = None
    for row, top in enumerate(rows.starts):
        for column, left in enumerate(columns.starts):
            inside = padded[..., top : top + rows.length, left : left + columns.length]
            result = _forward(network, inside, scale, device)
            # A single tile needs no second image to be blended into.
            if len(rows.starts) == len(columns.starts) == 1:
                output = result.to(image.device)
                break
            if output is None:
                # Only the first result tells how many channels there are.
                size = (*result.shape[:2], padded_height * scale, padded_width * scale)
                output = result.new_zeros(size, device=image.device)
            weight = rows.weights[row, :, None] * columns.weights[column]
            below = output[..., top * scale :, left * scale :]
            area = below[..., : rows.length * scale, : columns.length * scale]
            area += (result * weight.to(result.device)).to(image.device)
    # There is at least one tile.
    assert output is not None
    return output[..., : height * scale, : width * scale]


def _check(tile: int | None, tile_size: int | None, overlap: int, size_multiple: int) -> None:
    """Refuse tiles that cannot advance. `tile` is `tile_size` as rounded."""
    if tile is None or tile_size is None:
        return
    if tile_size < 1:
        raise OptionsError(
            f"tile_size must be at least 1 LQ pixel, got {tile_size}; leave it out to run whole "
            "images"
        )
    if not 0 <= overlap <= tile - size_multiple:
        raise OptionsError(
            f"an overlap of {overlap} does not fit tiles of {tile} LQ pixels: it must be from 0 to "
            f"{tile - size_multiple} (the tile less the network's size multiple of "
            f"{size_multiple}); use a larger tile_size or a smaller overlap"
        )


def _pad(image: Tensor, height: int, width: int) -> Tensor:
    """The image padded at the bottom and the right to (B, C, height, width); itself where nothing
    is missing.
    """
    below = height - image.shape[-2]
    right = width - image.shape[-1]
    # A reflection does not repeat the edge, so it is one pixel shorter than the side.
    if below:
        mode = "reflect" if below < image.shape[-2] else "replicate"
        image = F.pad(image, (0, 0, 0, below), mode=mode)
    if right:
        mode = "reflect" if right < image.shape[-1] else "replicate"
        image = F.pad(image, (0, right, 0, 0), mode=mode)
    return image


def _cut(side: int, tile: int | None, overlap: int, size_multiple: int, scale: int) -> _Axis:
    """Cut a side of `side` LQ pixels, a multiple of `size_multiple` as `tile` is."""
    if tile is None or tile >= side:
        return _Axis(side, (0,), torch.ones(1, side * scale))
    # Tiles start at multiples, so that a network that works in cells or windows divides them as it
    # would the whole.
    step = round_down(tile - overlap, size_multiple)
    last = side - tile
    starts = (*range(0, last, step), last)
    return _Axis(tile, starts, _blend_weights(starts, tile, side, scale))


def _blend_weights(starts: tuple[int, ...], length: int, side: int, scale: int) -> Tensor:
    """(tiles, length * scale), float32, see `tiled_forward`."""
    pixels = length * scale
    # Of the centres of pixels to the tile's near edge, in LQ pixels.
    distance = (torch.arange(pixels, dtype=torch.float64) + 0.5) / scale
    weights = torch.ones(len(starts), pixels, dtype=torch.float64)
    for index in range(1, len(starts)):
        shared = starts[index - 1] + length - starts[index]
        if shared > 0:
            # Zero over the first quarter of what they share, one from the third on.
            ramp = (2 * distance / shared - 0.5).clamp(0, 1)
            weights[index] = torch.minimum(weights[index], ramp)
            weights[index - 1] = torch.minimum(weights[index - 1], ramp.flip(0))
    # More than two tiles meet where tiles overlap by more than half or the last one was shifted
    # far.
    total = torch.zeros(side * scale, dtype=torch.float64)
    for start, weight in zip(starts, weights, strict=True):
        total[start * scale : start * scale + pixels] += weight
    for start, weight in zip(starts, weights, strict=True):
        weight /= total[start * scale : start * scale + pixels]
    return weights.float()


def _forward(
    network: Callable[[Tensor], Tensor], tile: Tensor, scale: int, device: torch.device | None
) -> Tensor:
    """Run one tile. (B, C', h * scale, w * scale), float32, on the network's device."""
    result = network(tile if device is None else tile.to(device))
    expected = tuple(side * scale for side in tile.shape[-2:])
    if result.ndim != 4 or tuple(result.shape[-2:]) != expected:
        raise ValueError(
            f"the network made {tuple(result.shape)} of {tuple(tile.shape)}; at scale {scale} the "
            f"last two sides should be {expected[0]}x{expected[1]}; check scale, size_multiple and "
            "min_size"
        )
    return result.float()
