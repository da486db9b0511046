"""Whole images through a network, in tiles where memory asks for them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from traiNNer.models.memory_needs import release_memory
from traiNNer.ops.tiling import tiled_forward
from traiNNer.utils.arithmetic import round_down, round_up
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import TrainingError
from traiNNer.utils.out_of_memory import first_line, is_out_of_memory

log = logging.getLogger(__name__)
# Side in LQ pixels below which tiles are not lowered: what overlaps would be most of the work.
SMALLEST_TILE = 32


class SmallestTileError(TrainingError):
    """Not even the smallest tile fits into the memory."""


@dataclass(frozen=True)
class TileSettings:
    """How a network is fed.

    Attributes:
        scale: factor between input and output sides.
        size_multiple: what the network's sides must be a multiple of.
        min_size: smallest side in LQ pixels.
        tile_size: side of the tiles in LQ pixels; 0 for whole images.
        tile_overlap: LQ pixels by which neighbouring tiles overlap.
    """

    scale: int
    size_multiple: int
    min_size: int
    tile_size: int
    tile_overlap: int

    @property
    def smallest_tile(self) -> int:
        """The smallest tile that is tried."""
        side = max(self.min_size, self.tile_overlap + self.size_multiple, SMALLEST_TILE)
        return round_up(side, self.size_multiple)


class Upscaler:
    """Runs networks over images. An image that runs out of memory is done again in tiles of half
    the side.

    Args:
        runtime: device and precision.
        settings: how the network is fed.

    Attributes:
        tile_size: in use now, LQ pixels; 0 for whole images. It stays lowered.
    """

    def __init__(self, runtime: Runtime, settings: TileSettings) -> None:
        self.runtime = runtime
        self.settings = settings
        self.tile_size = settings.tile_size

    @torch.no_grad()
    def __call__(self, network: nn.Module, lq: Tensor) -> Tensor:
        """Upscale `lq`, `(B, C, H, W)` or clips `(B, T, C, H, W)` in [0, 1], with a network in
        evaluation mode.

        Returns:
            `(B, C', H * scale, W * scale)`, or with T before C' where the network makes every frame
            of a clip; float32, not clamped, on the device of `lq`; only tiles need be on the
            network's.

        Raises:
            SmallestTileError: if the smallest tile does not fit into the memory.
        """
        is_repeated = False
        while True:
            try:
                return self._forward(network, lq)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                complaint = first_line(error)
            release_memory(
                self.runtime.device
            )  # outside the except block, whose frames hold the attempt's tensors
            if not self._lower_tile(max(lq.shape[-2:]), complaint):
                if is_repeated:
                    raise SmallestTileError(
                        f"an image in tiles of {self.tile_size or max(lq.shape[-2:])} LQ pixels "
                        f"does not fit into the memory of {self.runtime.device} ({complaint}). "
                        "What helps: use_amp: true, ending other programs that use the memory, "
                        "smaller images"
                    )
                # Once more, with what was given back just now.
                is_repeated = True

    def _forward(self, network: nn.Module, lq: Tensor) -> Tensor:
        # The dimensions of an output between batch and height.
        inner: list[int] = []

        def forward(tile: Tensor) -> Tensor:
            tile = tile.unflatten(1, lq.shape[1:-2]) if lq.ndim == 5 else tile
            tile = (
                tile.contiguous(memory_format=self.runtime.memory_format)
                if tile.ndim == 4
                else tile.contiguous()
            )
            with self.runtime.autocast():
                result = network(tile).float()
            inner[:] = result.shape[1:-2]
            return result.flatten(1, -3)

        settings = self.settings
        result = tiled_forward(
            forward,
            lq.flatten(1, -3),
            scale=settings.scale,
            tile_size=self.tile_size or None,
            overlap=settings.tile_overlap,
            size_multiple=settings.size_multiple,
            min_size=settings.min_size,
            device=self.runtime.device,
        )
        return result.unflatten(1, inner) if len(inner) > 1 else result

    def _lower_tile(self, longest_side: int, complaint: str) -> bool:
        """Whether there was a smaller tile to go on with."""
        multiple = self.settings.size_multiple
        smallest = self.settings.smallest_tile
        present = min(self.tile_size or longest_side, longest_side)
        if present <= smallest:
            return False
        self.tile_size = max(smallest, round_down(present // 2, multiple))
        log.warning(
            "out of memory at an image of %d LQ pixels: tiles of %d from now on; set val.tile_size "
            "to begin so (%s)",
            present, self.tile_size, complaint,
        )  # fmt: skip
        return True
