"""The catalogue's networks that keep the size of the image: denoising, deblurring, JPEG, haze, low
light.
"""

from __future__ import annotations

from functools import partial

from traiNNer.archs.spec import ArchSpec

# Four levels of half the size each: sides are padded to 2^4.
_nafnet = partial(
    ArchSpec,
    architecture="NAFNet",
    class_name="NAFNet",
    scale_parameter=None,
    scales=(1,),
    size_multiple=16,
    min_size=16,
    fp16=False,
    stack="wide",
    source="NAFNet, 2022",
)
# The paper's for denoising (SIDD); its widths there are 32 and 64.
# The paper's for denoising (SIDD); its widths there are 32 and 64.
_NAFNET_BLOCKS = {"enc_blk_nums": [2, 2, 4, 8], "middle_blk_num": 12, "dec_blk_nums": [2, 2, 2, 2]}
# Four halvings of windows of 8 pixels: 128. Oblong images go through `adapters.Uformer`.
_uformer = partial(
    ArchSpec,
    architecture="Uformer",
    class_name="Uformer",
    adapted=True,
    scale_parameter=None,
    scales=(1,),
    # Classes of layers, the first spelled as in the class.
    hidden=("dowsample", "upsample"),
    size_multiple=128,
    min_size=128,
    fp16=False,
    stack="wide",
    source="Uformer, 2022",
    note="works on squares inside: an oblong image costs as much as the square around it",
)
# Its four outputs are a factor and three offsets for each pixel, so `out_chans` is no number of
# colours.
_mixdehazenet = partial(
    ArchSpec,
    architecture="MixDehazeNet",
    class_name="MixDehazeNet",
    adapted=True,
    scale_parameter=None,
    scales=(1,),
    defaults={"out_chans": 4},
    size_multiple=4,
    min_size=40,
    fp16=False,
    source="MixDehazeNet, 2023",
    note="has batch norms: small batches train badly",
)
# The same in all of the paper's sizes, which differ in depth.
_EMBED_DIMS = [24, 48, 96, 48, 24]

RESTORERS: tuple[ArchSpec, ...] = (
    ArchSpec(
        # Three halvings of windows of 8 pixels: 64.
        name="scunet",
        architecture="SCUNet",
        class_name="SCUNet",
        scale_parameter=None,
        scales=(1,),
        size_multiple=64,
        min_size=64,
        stack="wide",
        source="SCUNet, 2022",
    ),
    _nafnet(name="nafnet", defaults={"width": 32, **_NAFNET_BLOCKS}),
    _nafnet(name="nafnet_l", defaults={"width": 64, **_NAFNET_BLOCKS}),
    ArchSpec(
        # As the weights that are published for unknown noise on colour images: 20 layers, their
        # batch norms merged into the convolutions.
        name="dncnn",
        architecture="DnCNN",
        class_name="DnCNN",
        scale_parameter=None,
        scales=(1,),
        defaults={"nb": 20, "act_mode": "R"},
        hidden=("mode",),
        fp16=False,
        stack="wide",
        source="DnCNN, 2017",
    ),
    ArchSpec(
        # A fourth channel for the noise level, which `adapters.DRUNet` fills in. Three halvings: 8.
        name="drunet",
        architecture="DRUNet",
        class_name="DRUNet",
        adapted=True,
        scale_parameter=None,
        scales=(1,),
        defaults={"in_nc": 4, "out_nc": 3},
        size_multiple=8,
        min_size=8,
        fp16=False,
        stack="narrow",
        source="DPIR, 2021",
        note="the noise level it is told is a constant 15/255",
    ),
    ArchSpec(
        # Three halvings: 8. Returns the quality that it estimates too, which `adapters.FBCNN`
        # leaves out.
        name="fbcnn",
        architecture="FBCNN",
        class_name="FBCNN",
        adapted=True,
        scale_parameter=None,
        scales=(1,),
        size_multiple=8,
        min_size=8,
        stack="narrow",
        source="FBCNN, 2021",
        note="its estimator of the JPEG quality is trained through the image alone",
    ),
    ArchSpec(
        # Four halvings, as NAFNet, on which it is built.
        name="kbnet_s",
        architecture="KBNet",
        class_name="KBNet_s",
        scale_parameter=None,
        scales=(1,),
        size_multiple=16,
        min_size=16,
        fp16=False,
        stack="wide",
        source="KBNet, 2023",
    ),
    ArchSpec(
        name="kbnet_l",
        architecture="KBNet",
        class_name="KBNet_l",
        scale_parameter=None,
        scales=(1,),
        size_multiple=16,
        min_size=16,
        fp16=False,
        stack="wide",
        source="KBNet, 2023",
    ),
    # The paper's three sizes, with the modulators that its released weights have.
    _uformer(name="uformer_t", defaults={"embed_dim": 16, "modulator": True}),
    _uformer(name="uformer_s", defaults={"embed_dim": 32, "modulator": True}),
    _uformer(
        name="uformer_b",
        defaults={"embed_dim": 32, "depths": [1, 2, 8, 8, 2, 8, 8, 2, 1], "modulator": True},
    ),
    ArchSpec(
        # Two halvings of patches of 8 pixels, in which it takes Fourier transforms: 32.
        name="fftformer",
        architecture="FFTformer",
        class_name="FFTformer",
        scale_parameter=None,
        scales=(1,),
        size_multiple=32,
        min_size=32,
        unused_parameters=True,
        fp16=False,
        stack="wide",
        source="FFTformer, 2023",
    ),
    ArchSpec(
        # One stage of the paper's three: its setting for the LOL data sets.
        name="retinexformer",
        architecture="RetinexFormer",
        class_name="RetinexFormer",
        scale_parameter=None,
        scales=(1,),
        defaults={"stage": 1, "num_blocks": [1, 2, 2]},
        size_multiple=8,
        min_size=8,
        fp16=False,
        source="Retinexformer, 2023",
    ),
    ArchSpec(
        # Three halvings: 8.
        name="hvicidnet",
        architecture="HVICIDNet",
        class_name="HVICIDNet",
        scale_parameter=None,
        scales=(1,),
        size_multiple=8,
        min_size=8,
        unused_parameters=True,
        fp16=False,
        source="HVI-CIDNet, 2025",
    ),
    _mixdehazenet(
        # The paper's four sizes: each has twice the depth of the one before.
        name="mixdehazenet_t",
        defaults={"out_chans": 4, "embed_dims": _EMBED_DIMS, "depths": [1, 1, 2, 1, 1]},
    ),
    _mixdehazenet(
        name="mixdehazenet_s",
        defaults={"out_chans": 4, "embed_dims": _EMBED_DIMS, "depths": [2, 2, 4, 2, 2]},
    ),
    _mixdehazenet(
        name="mixdehazenet_b",
        defaults={"out_chans": 4, "embed_dims": _EMBED_DIMS, "depths": [4, 4, 8, 4, 4]},
    ),
    _mixdehazenet(
        name="mixdehazenet_l",
        defaults={"out_chans": 4, "embed_dims": _EMBED_DIMS, "depths": [8, 8, 16, 8, 8]},
    ),
    ArchSpec(
        # Works on the image shrunk by `upscaling_factor`, in SAFMN's four levels.
        name="safmn_bcie",
        architecture="SAFMNBCIE",
        class_name="SAFMNBCIE",
        scale_parameter=None,
        scales=(1,),
        defaults={"dim": 48},
        size_multiple=16,
        min_size=16,
        fp16=False,
        source="SAFMN's compressed image enhancement, 2024",
        note="`upscaling_factor` is by how much it shrinks the image inside",
    ),
)
