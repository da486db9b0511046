"""The catalogue's networks for super-resolution that are made of convolutions."""

from __future__ import annotations

from functools import partial

from traiNNer.archs.spec import ArchSpec

# Pixel shuffling could enlarge by any whole number; these are the ones that are trained and tested.
_ALL = (1, 2, 3, 4, 8)

# A chain of convolutions that adds the enlarged input at its end, so stacked frames come out as
# frames.
_compact = partial(
    ArchSpec,
    architecture="Compact",
    class_name="Compact",
    scale_parameter="upscale",
    scales=_ALL,
    stack="wide",
    source="Real-ESRGAN, 2021",
)
# Ours fuses at the right moments, see `adapters.SPAN`.
_span = partial(
    ArchSpec,
    architecture="SPAN",
    class_name="SPAN",
    adapted=True,
    scale_parameter="upscale",
    scales=_ALL,
    stack="narrow",
    source="SPAN, 2023",
    note="trains three convolutions for each one it infers with; evaluation and checkpoints hold "
    "the fused one",
)
_esrgan = partial(
    ArchSpec,
    architecture="ESRGAN",
    class_name="ESRGAN",
    scale_parameter="scale",
    scales=(1, 2, 4, 8),
    # As Real-ESRGAN has it: below x4 the image is folded into channels, and the network stays an x4
    # one.
    at_scale={
        1: {"in_nc": 48, "scale": 4, "shuffle_factor": 4},
        2: {"in_nc": 12, "scale": 4, "shuffle_factor": 2},
    },
    hidden=("shuffle_factor", "norm"),
    size_multiple=4,
    min_size=4,
    stack="narrow",
    source="ESRGAN, 2018; Real-ESRGAN, 2021",
    note="at scales 1 and 2 the image is folded into channels first, as in Real-ESRGAN",
)
# spandrel's changes the caller's tensor, see `adapters.RCAN`. It computes in 0..255.
_rcan = partial(
    ArchSpec,
    architecture="RCAN",
    class_name="RCAN",
    adapted=True,
    scale_parameter="scale",
    scales=_ALL,
    fp16=False,
    stack="wide",
    source="RCAN, 2018",
)
# Both classes repeat the image for their residual, which a wider first convolution alone would
# break, so stacked frames need classes of ours.
_plksr = partial(
    ArchSpec,
    architecture="PLKSR",
    class_name="PLKSR",
    scale_parameter="upscaling_factor",
    scales=_ALL,
    stack="narrow",
    stacked_class="StackedPLKSR",
    source="PLKSR, 2024",
)
# As PLKSR with a group norm behind each block and dropout, for degraded images.
_realplksr = partial(
    ArchSpec,
    architecture="PLKSR",
    class_name="RealPLKSR",
    scale_parameter="upscaling_factor",
    scales=_ALL,
    fp16=False,
    stack="narrow",
    stacked_class="StackedRealPLKSR",
    source="PLKSR, 2024; neosr's RealPLKSR",
)
_mosr = partial(
    ArchSpec,
    architecture="MoSR",
    class_name="MoSR",
    scale_parameter="upscale",
    scales=_ALL,
    stack="wide",
    source="neosr's MoSR, 2024",
)
# Four levels of pooling, the smallest by 2^3, so sides of another multiple are padded.
_safmn = partial(
    ArchSpec,
    architecture="SAFMN",
    class_name="SAFMN",
    scale_parameter="upscaling_factor",
    scales=_ALL,
    size_multiple=8,
    min_size=8,
    fp16=False,
    stack="narrow",
    stacked_class="StackedSAFMN",
    source="SAFMN, 2023",
)
# The minimum is what spandrel asks for.
_seemore = partial(
    ArchSpec,
    architecture="SeemoRe",
    class_name="SeemoRe",
    scale_parameter="scale",
    scales=_ALL,
    min_size=16,
    fp16=False,
    stack="wide",
    stacked_class="StackedSeemoRe",
    source="SeemoRe, 2024",
)
# A class for each scale, with the scale in its name.
_realcugan = partial(
    ArchSpec,
    architecture="RealCUGAN",
    scale_parameter=None,
    stack="wide",
    source="Real-CUGAN, 2022",
)

CONVOLUTIONAL: tuple[ArchSpec, ...] = (
    _compact(
        # 16 convolutions as in Real-ESRGAN's models for animation; ultra and superultra are the
        # field's own smaller ones.
        name="compact",
        defaults={"num_feat": 64, "num_conv": 16},
        aliases=("srvggnetcompact",),
    ),
    _compact(name="ultracompact", defaults={"num_feat": 64, "num_conv": 8}),
    _compact(name="superultracompact", defaults={"num_feat": 24, "num_conv": 8}),
    # 48 channels in the paper, 28 in its small one; 96 is the field's, for degraded images.
    _span(name="span", defaults={"feature_channels": 48}),
    _span(name="span_s", defaults={"feature_channels": 28}),
    _span(name="span_f96", defaults={"feature_channels": 96}),
    _esrgan(
        name="esrgan",
        defaults={"num_filters": 64, "num_blocks": 23},
        aliases=("rrdbnet", "realesrgan", "bsrgan"),
    ),
    # Real-ESRGAN's for animation.
    _esrgan(name="esrgan_6b", defaults={"num_filters": 64, "num_blocks": 6}),
    _esrgan(name="esrgan_lite", defaults={"num_filters": 32, "num_blocks": 12}),
    # The paper's: 10 groups of 20 blocks.
    _rcan(name="rcan", defaults={"n_resgroups": 10, "n_resblocks": 20, "n_feats": 64}),
    # The released weights have DCCM, two 3x3 convolutions; the class wants to be told.
    _plksr(name="plksr", defaults={"ccm_type": "DCCM"}),
    _plksr(
        name="plksr_tiny",
        defaults={"n_blocks": 12, "kernel_size": 13, "ccm_type": "DCCM", "use_ea": False},
    ),
    _realplksr(name="realplksr"),
    # Small as PLKSR's tiny one is: fewer blocks, narrower kernels, no attention to elements.
    _realplksr(name="realplksr_s", defaults={"n_blocks": 12, "kernel_size": 13, "use_ea": False}),
    _realplksr(name="realplksr_l", defaults={"dim": 96}),
    _mosr(name="mosr", defaults={"n_block": 24, "dim": 64}),
    _mosr(name="mosr_t", defaults={"n_block": 5, "dim": 48}),
    ArchSpec(
        name="moesr",
        architecture="MoESR",
        class_name="MoESR",
        scale_parameter="scale",
        scales=_ALL,
        size_multiple=2,
        min_size=2,
        stack="narrow",
        source="the author's MoESR, 2025",
    ),
    # Both sizes of the paper.
    _safmn(name="safmn", defaults={"dim": 36, "n_blocks": 8}),
    _safmn(name="safmn_l", defaults={"dim": 128, "n_blocks": 16}),
    _seemore(
        # The three sizes of the paper; the large one recurs less and does not shuffle channels.
        name="seemore_t",
        defaults={"num_experts": 3, "num_layers": 6, "embedding_dim": 36, "lr_space": "exp"},
    ),
    _seemore(
        name="seemore_b",
        defaults={"num_experts": 3, "num_layers": 8, "embedding_dim": 48, "lr_space": "exp"},
    ),
    _seemore(
        name="seemore_l",
        defaults={
            "num_experts": 3,
            "num_layers": 16,
            "embedding_dim": 48,
            "lr_space": "exp",
            "use_shuffle": False,
            "recursive": 1,
        },
    ),
    _realcugan(
        name="realcugan",
        class_name="UpCunet{scale}x",
        scales=(2, 3, 4),
        size_multiple=4,
        min_size=32,
        note="`pro: true` is for weights of the pro models, which expect another range inside",
    ),
    _realcugan(
        # spandrel asks for 40 pixels here, and for 32 of the others.
        name="realcugan_fast",
        class_name="UpCunet{scale}x_fast",
        scales=(2,),
        size_multiple=4,
        min_size=40,
    ),
    ArchSpec(
        # It enlarges in steps of two, so there is no scale 3.
        name="swiftsrgan",
        architecture="SwiftSRGAN",
        class_name="SwiftSRGAN",
        scale_parameter="upscale_factor",
        scales=(1, 2, 4, 8),
        min_size=2,
        unused_parameters=True,
        stack="wide",
        source="Swift-SRGAN, 2021",
        note="has batch norms: small batches train badly",
    ),
    ArchSpec(
        # Returns its estimate of the degradation too, which `adapters.MMRealSR` leaves out.
        name="mmrealsr",
        architecture="MMRealSR",
        class_name="MMRealSR",
        adapted=True,
        scale_parameter="scale",
        scales=(4,),
        min_size=16,
        stack="narrow",
        source="MM-RealSR, 2022",
        note="its degradation estimator is trained through the image alone, without the paper's "
        "ranking loss",
    ),
)
