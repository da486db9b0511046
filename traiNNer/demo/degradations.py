"""A small data set of damaged pictures, by the kind of the damage, made of photographs."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from traiNNer.demo.leaves import draw_leaves
from traiNNer.demo.photographs import TRAIN, VAL, Photograph, find_photographs
from traiNNer.demo.placing import is_complete, place_files
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import Pixels, read_image, write_image
from traiNNer.video.writing import staging

# Pixels of a picture's side: a patch of 64 finds many places in it.
SIDE = 96
# Photographs are shrunk by as much at least, where they are large enough, which takes away most of
# what their own compression has left; and by as much at most, so that textures come at all scales.
_SHRUNK = (1.5, 3.5)
# Standard deviation, in levels of 255, of what a blur of a pixel and a half takes away: where there
# is less that is fine, blur, ringing and none of it look alike.
_LEAST_DETAIL = 5
_FINE = 1.5
# Photographs that have nothing fine in them anywhere.
_SOFT = ("moon.png", "retina.jpg")
# Places that are tried for one that shows something.
_TRIES = 20
# Pictures of each photograph and kind. There are few photographs, and more of each train better
# than more of the same.
_PICTURES = {"train": 40, "val": 15, "test": 15}
# Pictures of each kind that are made of leaves: nine photographs alone teach what they show, and
# not what has happened to them (79 % of the validation is told right without leaves).
_LEAVES = 900

Damage = Callable[[Pixels, random.Random], Pixels]


def clean(picture: Pixels, draw: random.Random) -> Pixels:
    """As it is."""
    del draw
    return picture


def jpeg(picture: Pixels, draw: random.Random) -> Pixels:
    """Compressed with halved colours, at qualities where blocks are seen."""
    quality = draw.randint(5, 20)
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None, "it was encoded here"
    return _levels(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def blur(picture: Pixels, draw: random.Random) -> Pixels:
    """Out of focus: a Gaussian of 1.5 to 3.5 pixels."""
    sigma = draw.uniform(1.5, 3.5)
    return _levels(cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))


def noise(picture: Pixels, draw: random.Random) -> Pixels:
    """White noise of 10 to 30 levels of 255."""
    sigma = draw.uniform(10, 30)
    generator = np.random.default_rng(draw.getrandbits(63))
    return _levels(picture + generator.normal(0, sigma, picture.shape))


def ringing(picture: Pixels, draw: random.Random) -> Pixels:
    """All frequencies above 0.2 to 0.4 of the highest one cut off, which leaves ripples beside
    every edge.
    """
    cutoff = draw.uniform(0.2, 0.4)
    side = SIDE // 2
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
# Photographs by split: nothing of a scene is in two of them, and colours are in each.
_JUDGED: dict[str, tuple[Photograph, ...]] = {
    "val": (Photograph("coffee.png"), Photograph("coins.png")),
    "test": (Photograph("rocket.jpg"), Photograph("camera.png")),
}
_LEFT = {*_SOFT, *(photo.name for photos in _JUDGED.values() for photo in photos)}
_SPLITS: dict[str, tuple[Photograph, ...]] = {
    "train": tuple(photo for photo in (*TRAIN, *VAL) if photo.name not in _LEFT),
    **_JUDGED,
}


def make_demo_degradations(
    root: Path, *, photographs: Path | None = None, draft: bool = False
) -> bool:
    """Make `train`, `val` and `test` below `root`, each with a folder for each kind of damage; the
    same files every time, as far as the libraries are the same.

    Args:
        root: the folder of the data set.
        photographs: their folder; None for that of scikit-image.
        draft: of all pictures of a kind the first alone is made, and the others are copies of it:
            for who looks at names and sizes, a second in place of half a minute.

    Returns:
        False when all was there already.

    Raises:
        DataError: if scikit-image or its photographs are missing.
        DiskError: if writing fails.
    """
    folder = photographs or find_photographs()
    chosen: list[tuple[str, Photograph]] = []
    for split, photos in _SPLITS.items():
        present = [photo for photo in photos if (folder / photo.name).is_file()]
        if not present:
            raise DataError(
                f"{folder}: no photograph for the {split} part of the demo is there; reinstall "
                "scikit-image from its wheel: pip install --force-reinstall scikit-image"
            )
        chosen += [(split, photo) for photo in present]
    targets = [
        _target(split, kind, photo, number)
        for split, photo in chosen
        for number in range(_PICTURES[split])
        for kind in DAMAGES
    ]
    targets += [_leaves_target(kind, number) for number in range(_LEAVES) for kind in DAMAGES]
    if is_complete(root, targets):
        return False
    with staging(root) as place:
        staged = place / root.name
        for split, photo in chosen:
            photograph = _middle(read_image(folder / photo.name), photo.part)
            for number in range(1 if draft else _PICTURES[split]):
                draw = random.Random(f"{photo.name} {number}")  # noqa: S311 - no cryptography here
                picture = _view(photograph, draw)
                if split == "train":
                    picture = _recolored(picture, draw)
                for kind, damage in DAMAGES.items():
                    path = staged / _target(split, kind, photo, number)
                    write_image(path, damage(picture, draw))
        _draw_leaves(staged, 1 if draft else _LEAVES)
        if draft:
            _fill_up(staged, targets)
        place_files(staged, root, targets)
    return True


def _draw_leaves(staged: Path, count: int) -> None:
    for number in range(count):
        draw = random.Random(f"leaves {number}")  # noqa: S311 - no cryptography here
        picture = draw_leaves(SIDE, number)
        for kind, damage in DAMAGES.items():
            write_image(staged / _leaves_target(kind, number), damage(picture, draw))


def _fill_up(staged: Path, targets: list[Path]) -> None:
    """The first picture of each kind in place of those that are missing."""
    first: dict[Path, bytes] = {}
    for target in targets:
        path = staged / target
        if path.exists():
            first.setdefault(path.parent, path.read_bytes())
        else:
            path.write_bytes(first[path.parent])


def _target(split: str, kind: str, photo: Photograph, number: int) -> Path:
    return Path(split, kind, f"{Path(photo.name).stem}_{number:02}.png")


def _leaves_target(kind: str, number: int) -> Path:
    return Path("train", kind, f"leaves_{number:03}.png")


def _middle(picture: Pixels, part: float) -> Pixels:
    height, width = (round(side * part) for side in picture.shape[:2])
    top = (picture.shape[0] - height) // 2
    left = (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def _view(photograph: Pixels, draw: random.Random) -> Pixels:
    """A square of a photograph that shows something fine, shrunk to the side of a picture."""
    height, width = photograph.shape[:2]
    most = min(height, width) / SIDE
    view = photograph
    for _ in range(_TRIES):
        factor = draw.uniform(min(_SHRUNK[0], most), min(_SHRUNK[1], most))
        side = int(SIDE * factor)
        top = draw.randint(0, height - side)
        left = draw.randint(0, width - side)
        square = np.ascontiguousarray(photograph[top : top + side, left : left + side])
        view = _levels(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
        coarse = cv2.GaussianBlur(view, (0, 0), _FINE)
        if (view.astype(np.float64) - coarse).std() >= _LEAST_DETAIL:
            break
    return view


def _recolored(picture: Pixels, draw: random.Random) -> Pixels:
    """In another light: the colours say nothing of the damage."""
    gains = np.array([draw.uniform(0.7, 1.3) for _ in range(3)])
    gamma = draw.uniform(0.7, 1.4)
    return _levels(255 * (picture / 255.0) ** gamma * gains)
