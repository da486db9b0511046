"""The demos' data, made of photographs that are already on the machine."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from traiNNer.demo.degradations import make_demo_degradations
from traiNNer.demo.photographs import make_demo_dataset
from traiNNer.demo.video import make_demo_video

__all__ = ["DEMO_DEGRADATIONS_ROOT", "DEMO_ROOT", "DEMO_VIDEO_ROOT", "demo_root", "prepare_demo"]

log = logging.getLogger(__name__)

# Where the demos' options look, relative to the working folder.
DEMO_ROOT = Path("datasets/demo")
DEMO_VIDEO_ROOT = Path("datasets/demo_video")
DEMO_DEGRADATIONS_ROOT = Path("datasets/demo_degradations")
_MAKERS = {
    DEMO_ROOT: make_demo_dataset,
    DEMO_VIDEO_ROOT: make_demo_video,
    DEMO_DEGRADATIONS_ROOT: make_demo_degradations,
}


def demo_root(path: Path) -> Path | None:
    """The demo's folder that a path lies in, as the options write it; None for anything else."""
    return next((root for root in _MAKERS if root in path.parents), None)


def prepare_demo(
    roots: Iterable[Path], into: Path | None = None, photographs: Path | None = None
) -> list[Path]:
    """Make the data of the demos that the given dataroots lie in, as far as they are missing.

    Args:
        roots: dataroots, as the options name them; those that are no demo's are passed over.
        into: the folder that the roots are relative to; None for the working folder.
        photographs: a folder of photographs; None for that of scikit-image.

    Returns:
        The demos' folders that were made, or completed.

    Raises:
        DataError: if the photographs, or for video PyAV or its encoder, are missing.
        DiskError: if writing fails.
    """
    # Each demo once and in one order, however many dataroots lie in it.
    needed = {demo_root(root) for root in roots}
    new: list[Path] = []
    for demo, make in _MAKERS.items():
        target = demo if into is None else into / demo
        if demo == DEMO_DEGRADATIONS_ROOT and into is not None:
            # Whoever names another folder checks, and looks at headers alone.
            make = partial(make_demo_degradations, draft=True)
        if demo in needed and make(target, photographs=photographs):
            log.info("made the demo's pictures in %s", target)
            new.append(target)
    return new
