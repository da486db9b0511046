"""LQ made of GT by shrinking it."""

from __future__ import annotations

import numpy as np

from traiNNer.ops.color import to_uint8
from traiNNer.ops.resize import ResizeMode, resize
from traiNNer.utils.images import Pixels, image_to_tensor

_WHITE_16 = 65535


def shrink(gt: Pixels, scale: int, mode: ResizeMode, *, antialias: bool = True) -> Pixels:
    """(H, W, 3) to (H / scale, W / scale, 3), of the same type: uint8 or uint16."""
    height = gt.shape[0] // scale
    width = gt.shape[1] // scale
    image = image_to_tensor(gt)
    if gt.dtype == np.uint8:
        image = image.float() / 255
    lq = resize(image, (height, width), mode, antialias=antialias).permute(1, 2, 0)
    if gt.dtype == np.uint8:
        return to_uint8(lq).numpy()
    return (lq.clamp(0, 1) * _WHITE_16).round().numpy().astype(np.uint16)
