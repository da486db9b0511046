"""Writing pictures, and their way to the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from traiNNer.utils.files import write_atomic
from traiNNer.utils.images import png
from traiNNer.utils.images.basics import Pixels
from traiNNer.utils.images.colors import Colors

# Of pictures that say nothing.
SRGB = Colors()


def write_image(
    path: Path, rgb: Pixels, *, alpha: Pixels | None = None, colors: Colors = SRGB
) -> None:
    """Write a PNG, whole or not at all.

    Args:
        path: the file, ending in .png; missing folders are made.
        rgb: (H, W, 3), uint8 or uint16.
        alpha: (H, W) of the same type.
        colors: what the numbers mean; what a colour PNG cannot say is left out.

    Raises:
        ValueError: if an array has another shape or dtype.
        DiskError: if writing fails.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"expected an (H, W, 3) array of uint8 or uint16, got {rgb.shape} of {rgb.dtype}"
        )
    if alpha is not None and (alpha.shape, alpha.dtype) != (rgb.shape[:2], rgb.dtype):
        raise ValueError(
            f"expected an alpha of {rgb.shape[:2]} and {rgb.dtype}, got {alpha.shape} of "
            f"{alpha.dtype}"
        )
    write_atomic(path, png.encode(path, rgb, alpha, colors))


def image_to_tensor(rgb: Pixels) -> torch.Tensor:
    """(H, W, 3) to a new contiguous tensor (3, H, W): uint8 stays, uint16 becomes float32 in [0,
    1].

    Eight bit stays eight bit because it is four times smaller on the way from the workers and to
    the device, where `Batch.to` converts it.
    """
    chw = rgb.transpose(2, 0, 1)
    if rgb.dtype == np.uint8:
        return torch.from_numpy(np.array(chw, order="C"))
    if rgb.dtype == np.uint16:
        return torch.from_numpy(np.divide(chw, 65535.0, dtype=np.float32, order="C"))
    raise ValueError(f"expected uint8 or uint16, got {rgb.dtype}")
