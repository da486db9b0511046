"""A small data set of photographs that are already on the machine: those inside the scikit-image
package.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from traiNNer.ops.resize import resize
from traiNNer.utils.arithmetic import ceil_div, round_down
from traiNNer.utils.errors import DataError, DiskError
from traiNNer.utils.images import (
    ImageHeader,
    Pixels,
    image_to_tensor,
    read_header,
    read_image,
    write_image,
)

SCALE = 2
_MULTIPLE = 4  # GT sides are multiples of it, so that LQ of scale 4 can be made of the same GT
_MAX_SIDE = 512  # pixels; of training images, so that decoding stays cheap


@dataclass(frozen=True, slots=True)
class _Source:
    """A file of the package; only the central `part` of both sides is used (of the retina, what has
    no black frame).
    """

    name: str
    part: float = 1.0


# Nothing of a scene is in both: motorcycle_right shows what motorcycle_left shows.
_TRAIN = (
    _Source("motorcycle_left.png"),
    _Source("rocket.jpg"),
    _Source("hubble_deep_field.jpg"),
    _Source("retina.jpg", part=0.68),
    _Source("ihc.png"),
    _Source("camera.png"),
    _Source("coins.png"),
    _Source("brick.png"),
    _Source("grass.png"),
    _Source("gravel.png"),
    _Source("moon.png"),
    _Source("page.png"),
)
_VAL = (_Source("astronaut.png"), _Source("chelsea.png"), _Source("coffee.png"))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A rectangle of a source, in pixels, and the file it becomes."""

    split: str
    name: str
    source: Path
    left: int
    top: int
    width: int
    height: int


def make_demo_dataset(root: Path) -> bool:
    """Make `train/gt`, `train/lq_x2`, `val/gt` and `val/lq_x2` below `root`; the same files every
    time.

    LQ is GT shrunk by antialiased bicubic interpolation and rounded to 8 bit. Everything is written
    beside `root` and moved when it is whole. Files that are there already stay.

    Returns:
        False when all was there already.

    Raises:
        DataError: if scikit-image is not installed or its photographs are missing.
        DiskError: if writing fails.
    """
    pieces = list(_plan(_photographs()))
    targets = [
        Path(piece.split, kind, piece.name) for piece in pieces for kind in ("gt", f"lq_x{SCALE}")
    ]
    if all((root / target).is_file() for target in targets):
        return False
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as folder:
            made = Path(folder, root.name)
            _write(pieces, made)
            if not root.exists():
                made.rename(root)
                return True
            for target in targets:
                (root / target).parent.mkdir(parents=True, exist_ok=True)
                if not (root / target).exists():
                    (made / target).rename(root / target)
    except OSError as error:
        raise DiskError(
            f"cannot make the demo data set in {root.absolute()}: {error.strerror or error}"
        ) from error
    return True


def _photographs() -> Path:
    """The folder of scikit-image's photographs, without importing the package or fetching
    anything.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "the demo data set is made of scikit-image's photographs: pip install scikit-image"
        )
    return Path(spec.submodule_search_locations[0], "data")


def _plan(folder: Path) -> Iterator[_Piece]:
    for split, sources in (("train", _TRAIN), ("val", _VAL)):
        # A version of scikit-image may ship fewer files.
        found = [source for source in sources if (folder / source.name).is_file()]
        if not found:
            names = ", ".join(source.name for source in sources)
            raise DataError(
                f"{folder}: none of {names} is there; reinstall scikit-image from its wheel: "
                "pip install --force-reinstall scikit-image"
            )
        for source in found:
            path = folder / source.name
            yield from _cut(
                split, path, read_header(path), source.part, _MAX_SIDE if split == "train" else None
            )


def _cut(
    split: str, path: Path, header: ImageHeader, part: float, max_side: int | None
) -> Iterator[_Piece]:
    width, height = round(header.width * part), round(header.height * part)
    left, top = (header.width - width) // 2, (header.height - height) // 2
    columns = ceil_div(width, max_side) if max_side else 1
    rows = ceil_div(height, max_side) if max_side else 1
    piece_width, piece_height = (
        round_down(side // number, _MULTIPLE) for side, number in ((width, columns), (height, rows))
    )
    for row in range(rows):
        for column in range(columns):
            name = f"{path.stem}.png" if rows * columns == 1 else f"{path.stem}_{row}{column}.png"
            x, y = left + column * piece_width, top + row * piece_height
            yield _Piece(split, name, path, x, y, piece_width, piece_height)


def _write(pieces: list[_Piece], root: Path) -> None:
    sources: dict[Path, Pixels] = {}
    for piece in pieces:
        if piece.source not in sources:
            sources = {piece.source: read_image(piece.source)}
        rows = slice(piece.top, piece.top + piece.height)
        gt = sources[piece.source][rows, piece.left : piece.left + piece.width]
        write_image(root / piece.split / "gt" / piece.name, gt)
        write_image(root / piece.split / f"lq_x{SCALE}" / piece.name, _shrink(gt))


def _shrink(gt: Pixels) -> Pixels:
    """(H, W, 3) uint8 to (H / SCALE, W / SCALE, 3) uint8."""
    height, width = gt.shape[0] // SCALE, gt.shape[1] // SCALE
    lq = resize(image_to_tensor(gt).float(), (height, width), "bicubic")
    return lq.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
