"""Every network that `network_g.type` can name, registered under its name and its aliases.

`SPECS` are those for images, `TEMPORAL` those for clips, `CLASSIFIERS` those that tell classes.

The figures come from the papers and their official configurations; sizes and precisions are what
the classes were measured to take.
"""

from __future__ import annotations

from traiNNer.archs.spec import ArchSpec
from traiNNer.archs.table_classifiers import CLASSIFIERS
from traiNNer.archs.table_convolutional import CONVOLUTIONAL
from traiNNer.archs.table_restorers import RESTORERS
from traiNNer.archs.table_temporal import TEMPORAL
from traiNNer.archs.table_transformers import TRANSFORMERS
from traiNNer.utils.registry import ARCHS

SPECS: tuple[ArchSpec, ...] = (*CONVOLUTIONAL, *TRANSFORMERS, *RESTORERS)

# Architectures of spandrel's main registry that no entry builds, and why.
LEFT_OUT: dict[str, str] = {
    "AuraSR": "draws random noise for every output and is trained by its own multi-scale GAN, not "
    "on pairs",
    "GFPGAN": "restores aligned faces of 512 pixels around a pretrained StyleGAN2",
    "IPT": "cuts images into patches of the one size that its weights are bound to",
    "LaMa": "inpainting: it takes a mask beside the image",
    "RestoreFormer": "restores aligned faces through a pretrained codebook, whose loss it returns "
    "beside the image",
}

for _spec in (*SPECS, *TEMPORAL, *CLASSIFIERS):
    ARCHS.add(_spec.name, _spec, _spec.aliases)
