"""Pictures of leaves: the same every time, others for other seeds, and none of them empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from traiNNer.demo.degradations import make_demo_degradations
from traiNNer.demo.leaves import draw_leaves


def test_a_seed_is_a_picture() -> None:
    pictures = [draw_leaves(48, seed) for seed in range(12)]
    assert all(picture.shape == (48, 48, 3) and picture.dtype == np.uint8 for picture in pictures)
    assert np.array_equal(pictures[3], draw_leaves(48, 3))
    assert not np.array_equal(pictures[3], pictures[4])
    # Something is to be seen in each: edges and textures, on which damage leaves its marks.
    assert min(picture.std() for picture in pictures) > 5
    # Some are grey, as photographs are.
    grey = [bool((picture == picture[..., :1]).all()) for picture in pictures]
    assert 0 < sum(grey) < len(grey)


def test_a_check_gets_all_names_and_sizes_without_drawing_all(tmp_path: Path) -> None:
    root = tmp_path / "demo_degradations"
    assert make_demo_degradations(root, draft=True)
    for kind in ("blur", "clean", "jpeg", "noise", "ringing"):
        names = sorted(path.name for path in (root / "train" / kind).iterdir())
        assert len(names) == 1260
        leaves = [(root / "train" / kind / f"leaves_{n:03}.png").read_bytes() for n in (1, 899)]
        assert leaves[0] == leaves[1]
    assert (root / "train/blur/leaves_000.png").read_bytes() != (
        root / "train/noise/leaves_000.png"
    ).read_bytes()
