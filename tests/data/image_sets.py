"""Pictures with texture, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from traiNNer.utils.images import Pixels

MakePairs = Callable[..., tuple[Path, Path]]


def texture(height: int, width: int, seed: int = 0) -> Pixels:
    """(height, width, 3) uint8: smooth structure and noise, no two places alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(smooth + rng.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)


def save(path: Path, image: Pixels) -> None:
    """Write a PNG without waiting for the disk, as `write_image` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
