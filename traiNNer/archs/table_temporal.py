"""The catalogue's networks for clips `(B, T, 3, H, W)`: they make the centre frame, or all
frames.
"""

from __future__ import annotations

from traiNNer.archs.clips import AtLeastOne, OddFrames
from traiNNer.archs.spec import ArchSpec
from traiNNer.archs.temporal_stack import StackSpec

# EDVR's choice, and the default clip_size of the video datasets, so that both fit without being
# set.
_FRAMES = 5
# A class of layers made of none says nothing helpful, so the options refuse zero.
_COUNTS: dict[str, object] = dict.fromkeys(
    ("num_feat", "num_extract", "num_blocks", "deform_groups"), AtLeastOne
)

TEMPORAL: tuple[ArchSpec, ...] = (
    StackSpec(
        name="temporal_stack",
        architecture="TemporalStack",
        class_name="TemporalStack",
        home="traiNNer.archs.temporal_stack",
        scale_parameter=None,
        # Of the network that `arch` names; these are all that any of them offers.
        scales=(1, 2, 3, 4, 8),
        defaults={"frames": _FRAMES},
        temporal=True,
        target="center",
        spandrel_detects=False,
        source="VESPCN's early fusion, 2017",
        note="scales, sizes and precisions are those of the network that `arch` names",
    ),
    ArchSpec(
        name="deform_align",
        architecture="DeformAlign",
        class_name="DeformAlign",
        home="traiNNer.archs.deform_align",
        scale_parameter="upscale",
        scales=(1, 2, 3, 4),
        defaults={"frames": _FRAMES},
        annotations={**_COUNTS, "frames": OddFrames},
        temporal=True,
        target="center",
        spandrel_detects=False,
        source="our own, in the manner of EDVR, 2019",
        note="torchvision aligns in float32 at every precision, and not with `deterministic: true` "
        "on CUDA",
    ),
    ArchSpec(
        name="recurrent",
        architecture="Recurrent",
        class_name="Recurrent",
        home="traiNNer.archs.recurrent",
        scale_parameter="upscale",
        scales=(1, 2, 3, 4),
        annotations=_COUNTS,
        temporal=True,
        target="all",
        spandrel_detects=False,
        source="our own, in the manner of RLSP, 2019",
        note="sees one frame ahead; `Recurrent.step` makes a stream frame by frame",
    ),
)
