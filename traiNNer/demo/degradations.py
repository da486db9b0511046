"""A small data set of damaged pictures, by the kind of the damage, made of photographs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from traiNNer.demo.photographs import TRAIN, VAL, Photograph, find_photographs, shrink
from traiNNer.demo.placing import is_complete, place_files
from traiNNer.utils.arithmetic import round_down
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import Pixels, read_image, write_image
from traiNNer.utils.seeds import hash_seed
from traiNNer.video.writing import staging

# Pixels of a tile's side: a patch of 64 finds many places in it.
TILE = 128
# Photographs are shrunk by it, which takes away most of what their own compression has left.
_SHRUNK = 2
# Standard deviation of a tile in levels of 255: in what is flatter no damage can be seen.
_LEAST_CONTRAST = 12
# Pixels between tiles: half a tile, so that a small photograph gives several.
_STEP = TILE // 2
# Tiles of a photograph; the largest would outweigh the others.
_MOST_TILES = 12
# Pictures of each tile and kind, with strengths of their own.
_DRAWS = 2

Damage = Callable[[Pixels, random.Random], Pixels]


def clean(picture: Pixels, draw: random.Random) -> Pixels:
    """As it is."""
    del draw
    return picture


def jpeg(picture: Pixels, draw: random.Random) -> Pixels:
    """Compressed with halved colours, at qualities where blocks are seen."""
    quality = draw.randint(8, 25)
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None, "it was encoded here"
    return _levels(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def blur(picture: Pixels, draw: random.Random) -> Pixels:
    """Out of focus: a Gaussian of 1.2 to 3 pixels."""
    sigma = draw.uniform(1.2, 3.0)
    return _levels(cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))


def noise(picture: Pixels, draw: random.Random) -> Pixels:
    """White noise of 8 to 30 levels of 255."""
    sigma = draw.uniform(8, 30)
    generator = np.random.default_rng(draw.getrandbits(63))
    return _levels(picture + generator.normal(0, sigma, picture.shape))


def ringing(picture: Pixels, draw: random.Random) -> Pixels:
    """All frequencies above 0.25 to 0.45 of the highest one cut off, which leaves ripples beside
    every edge.
    """
    cutoff = draw.uniform(0.25, 0.45)
    side = TILE // 2
    # Mirrored, so that the ripples come from the picture's edges and not from its border.
    wide = np.pad(picture.astype(np.float64), ((side, side), (side, side), (0, 0)), "symmetric")
    rows = np.fft.fftfreq(wide.shape[0])[:, None]
    columns = np.fft.rfftfreq(wide.shape[1])[None, :]
    # Of the highest frequency, half a cycle in a pixel.
    passes = np.hypot(rows, columns) <= cutoff / 2
    kept = np.fft.rfft2(wide, axes=(0, 1)) * passes[..., None]
    filtered = np.fft.irfft2(kept, s=wide.shape[:2], axes=(0, 1))
    return _levels(filtered[side:-side, side:-side])


def _levels(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.asarray(values).round().clip(0, 255).astype(np.uint8)


DAMAGES: dict[str, Damage] = {
    "blur": blur,
    "clean": clean,
    "jpeg": jpeg,
    "noise": noise,
    "ringing": ringing,
}
# Photographs by split: nothing of a scene is in two of them.
_SPLITS: dict[str, tuple[Photograph, ...]] = {
    "train": tuple(photo for photo in TRAIN if photo.name != "rocket.jpg"),
    "val": tuple(photo for photo in VAL if photo.name != "chelsea.png"),
    "test": (Photograph("chelsea.png"), Photograph("rocket.jpg")),
}


@dataclass(frozen=True, slots=True)
class _Tile:
    """A square of a photograph that was shrunk; `top` and `left` in its pixels."""

    split: str
    stem: str
    top: int
    left: int

    def files(self) -> Iterator[tuple[str, int, Path]]:
        """The kind, the draw and the path of each picture that is made of it."""
        for kind, number in product(DAMAGES, range(_DRAWS)):
            name = f"{self.stem}_{self.top}_{self.left}_{number}.png"
            yield kind, number, Path(self.split, kind, name)


def make_demo_degradations(root: Path, *, photographs: Path | None = None) -> bool:
    """Make `train`, `val` and `test` below `root`, each with a folder for each kind of damage; the
    same files every time, as far as the libraries are the same.

    Args:
        root: the folder of the data set.
        photographs: their folder; None for that of scikit-image.

    Returns:
        False when all was there already.

    Raises:
        DataError: if scikit-image or its photographs are missing.
        DiskError: if writing fails.
    """
    folder = photographs or find_photographs()
    pictures: dict[str, Pixels] = {}
    tiles: list[_Tile] = []
    for split, photos in _SPLITS.items():
        present = [photo for photo in photos if (folder / photo.name).is_file()]
        if not present:
            raise DataError(
                f"{folder}: no photograph for the {split} part of the demo is there; reinstall "
                "scikit-image from its wheel: pip install --force-reinstall scikit-image"
            )
        for photo in present:
            path = folder / photo.name
            pictures[path.stem] = _prepared(path, photo.part)
            tiles += _tiles(split, path.stem, pictures[path.stem])
    targets = [path for tile in tiles for _, _, path in tile.files()]
    if is_complete(root, targets):
        return False
    with staging(root) as place:
        staged = place / root.name
        for tile in tiles:
            rows = slice(tile.top, tile.top + TILE)
            columns = slice(tile.left, tile.left + TILE)
            picture = np.ascontiguousarray(pictures[tile.stem][rows, columns])
            for kind, number, path in tile.files():
                draw = random.Random(f"{path} {number}")  # noqa: S311 - no cryptography here
                write_image(staged / path, DAMAGES[kind](picture, draw))
        place_files(staged, root, targets)
    return True


def _prepared(path: Path, part: float) -> Pixels:
    """The photograph's middle `part`, shrunk where it stays large enough for a tile."""
    picture = read_image(path)
    height, width = (round_down(round(side * part), _SHRUNK) for side in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    middle = picture[top : top + height, left : left + width]
    return shrink(middle, _SHRUNK) if min(height, width) >= _SHRUNK * TILE else middle


def _tiles(split: str, stem: str, picture: Pixels) -> list[_Tile]:
    """Those of a photograph that show something, the same ones every time."""
    height, width = picture.shape[:2]
    places = [
        (top, left)
        for top in range(0, height - TILE + 1, _STEP)
        for left in range(0, width - TILE + 1, _STEP)
        if picture[top : top + TILE, left : left + TILE].std() >= _LEAST_CONTRAST
    ]
    draw = random.Random(hash_seed(0, len(places)))  # noqa: S311 - no cryptography here
    chosen = sorted(draw.sample(places, min(_MOST_TILES, len(places))))
    return [_Tile(split, stem, top, left) for top, left in chosen]
