"""A small data set of photographs that are already on the machine: those inside the scikit-image
package.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from traiNNer.demo.placing import is_complete, place_files
from traiNNer.ops.resize import resize
from traiNNer.utils.arithmetic import ceil_div, round_down
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import (
    ImageHeader,
    Pixels,
    image_to_tensor,
    read_header,
    read_image,
    write_image,
)
from traiNNer.video.colors import Frame
from traiNNer.video.writing import staging

SCALE = 2
# GT sides are multiples of it, so that LQ of scale 4 can be made of the same GT.
_MULTIPLE = 4
# Of training images, in pixels: a whole photograph is decoded for each crop, which should be cheap.
_MAX_SIDE = 512


@dataclass(frozen=True, slots=True)
class Photograph:
    """A file of the package; only the central `part` of both sides is used (of the retina, what has
    no black frame).
    """

    name: str
    part: float = 1.0


# Nothing of a scene is in both: motorcycle_right shows what motorcycle_left shows.
TRAIN = (
    Photograph("motorcycle_left.png"),
    Photograph("rocket.jpg"),
    Photograph("hubble_deep_field.jpg"),
    Photograph("retina.jpg", part=0.68),
    Photograph("ihc.png"),
    Photograph("camera.png"),
    Photograph("coins.png"),
    Photograph("brick.png"),
    Photograph("grass.png"),
    Photograph("gravel.png"),
    Photograph("moon.png"),
    Photograph("page.png"),
)
VAL = (Photograph("astronaut.png"), Photograph("chelsea.png"), Photograph("coffee.png"))


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


def make_demo_dataset(root: Path, *, photographs: Path | None = None) -> bool:
    """Make `train/gt`, `train/lq_x2`, `val/gt` and `val/lq_x2` below `root`; the same files every
    time.

    LQ is GT shrunk by antialiased bicubic interpolation and rounded to 8 bit. Everything is written
    beside `root` and moved when it is whole. Files that are there already stay.

    Args:
        root: the folder of the data set.
        photographs: their folder; None for that of scikit-image.

    Returns:
        False when all was there already.

    Raises:
        DataError: if scikit-image is not installed or its photographs are missing.
        DiskError: if writing fails.
    """
    pieces = list(_plan(photographs or find_photographs()))
    targets = [
        Path(piece.split, kind, piece.name) for piece in pieces for kind in ("gt", f"lq_x{SCALE}")
    ]
    if is_complete(root, targets):
        return False
    with staging(root) as folder:
        staged = folder / root.name
        _write(pieces, staged)
        place_files(staged, root, targets)
    return True


def find_photographs() -> Path:
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
    for split, photographs in (("train", TRAIN), ("val", VAL)):
        # A version of scikit-image may ship fewer files.
        present = [photo for photo in photographs if (folder / photo.name).is_file()]
        if not present:
            names = ", ".join(photo.name for photo in photographs)
            raise DataError(
                f"{folder}: none of {names} is there; reinstall scikit-image from its wheel: "
                "pip install --force-reinstall scikit-image"
            )
        # A validation image is decoded rarely, and read better as a whole.
        max_side = _MAX_SIDE if split == "train" else None
        for photo in present:
            path = folder / photo.name
            yield from _cut(split, path, read_header(path), photo.part, max_side)


def _cut(
    split: str, path: Path, header: ImageHeader, part: float, max_side: int | None
) -> Iterator[_Piece]:
    """Pieces of equal size of the central part, none with a side above `max_side`."""
    width = round(header.width * part)
    height = round(header.height * part)
    left = (header.width - width) // 2
    top = (header.height - height) // 2
    columns = ceil_div(width, max_side) if max_side else 1
    rows = ceil_div(height, max_side) if max_side else 1
    piece_width = round_down(width // columns, _MULTIPLE)
    piece_height = round_down(height // rows, _MULTIPLE)
    for row, column in product(range(rows), range(columns)):
        place = "" if rows * columns == 1 else f"_{row}{column}"
        x = left + column * piece_width
        y = top + row * piece_height
        yield _Piece(split, f"{path.stem}{place}.png", path, x, y, piece_width, piece_height)


def _write(pieces: list[_Piece], root: Path) -> None:
    sources: dict[Path, Pixels] = {}
    for piece in pieces:
        # The last photograph alone is kept: the pieces of one follow each other.
        if piece.source not in sources:
            sources = {piece.source: read_image(piece.source)}
        rows = slice(piece.top, piece.top + piece.height)
        gt = sources[piece.source][rows, piece.left : piece.left + piece.width]
        write_image(root / piece.split / "gt" / piece.name, gt)
        write_image(root / piece.split / f"lq_x{SCALE}" / piece.name, shrink(gt, SCALE))


def shrink(gt: Pixels, scale: int) -> Frame:
    """(H, W, 3) uint8 to (H / scale, W / scale, 3) uint8 by antialiased bicubic interpolation."""
    size = (gt.shape[0] // scale, gt.shape[1] // scale)
    lq = resize(image_to_tensor(gt).float(), size, "bicubic")
    # Bicubic overshoots at edges.
    return lq.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
