"""The catalogue's networks for super-resolution that use attention."""

from __future__ import annotations

from functools import partial

from traiNNer.archs.spec import ArchSpec

# Pixel shuffling could enlarge by any whole number; these are the ones that are trained and tested.
_ALL = (1, 2, 3, 4, 8)
# At scale 1 these networks learn the difference to their input, as their authors do for denoising.
_RESIDUAL_AT_1 = {1: {"upsampler": ""}}

# SwinIR and Swin2SR have the same variants.
# SwinIR's lightweight one.
_SWIN_S = {
    "embed_dim": 60, "depths": [6] * 4, "num_heads": [6] * 4, "window_size": 8, "mlp_ratio": 2.0,
    "upsampler": "pixelshuffledirect",
}  # fmt: skip
# SwinIR's for classical super-resolution.
_SWIN_M = {
    "embed_dim": 180, "depths": [6] * 6, "num_heads": [6] * 6, "window_size": 8, "mlp_ratio": 2.0,
    "upsampler": "pixelshuffle",
}  # fmt: skip
# SwinIR's large one for real images. It is published at x4 only, with another upsampler: see
# `at_scale` of those that use it.
_SWIN_L = {
    "embed_dim": 240, "depths": [6] * 9, "num_heads": [8] * 9, "window_size": 8, "mlp_ratio": 2.0,
    "upsampler": "pixelshuffle", "resi_connection": "3conv",
}  # fmt: skip
# Sides are padded to windows of 8 pixels.
_swinir = partial(
    ArchSpec,
    architecture="SwinIR",
    class_name="SwinIR",
    scale_parameter="upscale",
    scales=_ALL,
    at_scale=_RESIDUAL_AT_1,
    # It folds the image into channels, so it is a scale of its own.
    hidden=("start_unshuffle",),
    size_multiple=8,
    min_size=16,
    fp16=False,
    stack="wide",
    source="SwinIR, 2021",
)
_swin2sr = partial(
    ArchSpec,
    architecture="Swin2SR",
    class_name="Swin2SR",
    scale_parameter="upscale",
    scales=_ALL,
    at_scale=_RESIDUAL_AT_1,
    size_multiple=8,
    min_size=16,
    fp16=False,
    stack="wide",
    source="Swin2SR, 2022",
)
# Sides are padded to windows of 16 pixels.
_hat = partial(
    ArchSpec,
    architecture="HAT",
    class_name="HAT",
    scale_parameter="upscale",
    scales=_ALL,
    size_multiple=16,
    min_size=16,
    fp16=False,
    stack="wide",
    source="HAT, 2023",
)
# The multiple is the longer side of its split windows.
_dat = partial(
    ArchSpec,
    architecture="DAT",
    class_name="DAT",
    scale_parameter="upscale",
    scales=_ALL,
    size_multiple=32,
    min_size=32,
    # A pooled map of one value per channel goes through a batch norm, which has no variance of one.
    min_batch=2,
    fp16=False,
    stack="wide",
    source="DAT, 2023",
    note="has batch norms over one value per channel: batches of one cannot be trained on",
)
# HAT's windows and dense connections.
_drct = partial(
    ArchSpec,
    architecture="DRCT",
    class_name="DRCT",
    scale_parameter="upscale",
    scales=_ALL,
    size_multiple=16,
    min_size=16,
    fp16=False,
    stack="wide",
    source="DRCT, 2024",
)
# Sides are padded to windows of 16 pixels.
_atd = partial(
    ArchSpec,
    architecture="ATD",
    class_name="ATD",
    scale_parameter="upscale",
    scales=_ALL,
    at_scale=_RESIDUAL_AT_1,
    size_multiple=16,
    min_size=16,
    fp16=False,
    stack="wide",
    source="ATD, 2024",
)
# The multiple is the longer side of its split windows, as DAT's.
_rgt = partial(
    ArchSpec,
    architecture="RGT",
    class_name="RGT",
    scale_parameter="upscale",
    scales=_ALL,
    size_multiple=32,
    min_size=32,
    fp16=False,
    stack="wide",
    source="RGT, 2024",
)
_fdat = partial(
    ArchSpec,
    architecture="FDAT",
    class_name="FDAT",
    scale_parameter="scale",
    scales=(1, 2, 3, 4),
    size_multiple=8,
    min_size=8,
    unused_parameters=True,
    stack="narrow",
    source="the author's FDAT, 2025",
)
# The multiple is the side of its stripes.
_grl = partial(
    ArchSpec,
    architecture="GRL",
    class_name="GRL",
    scale_parameter="upscale",
    scales=_ALL,
    # What cannot be read from the weights and spandrel assumes: large windows above scale 1, small
    # ones at it.
    at_scale={1: {"upsampler": "", "window_size": 8, "stripe_size": [8, 8]}},
    # They need a library that is not installed here.
    hidden=("fairscale_checkpoint", "offload_to_cpu"),
    size_multiple=64,
    min_size=64,
    fp16=False,
    stack="narrow",
    source="GRL, 2023",
)
# What all of the paper's sizes share; spandrel assumes it.
_GRL_COMMON = {
    "window_size": 32, "stripe_size": [64, 64], "stripe_shift": True, "mlp_ratio": 2.0,
    "anchor_window_down_factor": 4,
}  # fmt: skip
# Sides are padded to patches of 8 pixels.
_ditn = partial(
    ArchSpec,
    architecture="DITN",
    class_name="DITN",
    scale_parameter="upscale",
    scales=_ALL,
    size_multiple=8,
    min_size=8,
    stack="narrow",
    source="DITN, 2023",
)

TRANSFORMERS: tuple[ArchSpec, ...] = (
    _swinir(
        name="swinir_s",
        defaults=_SWIN_S,
        aliases=("swinir_light",),
    ),
    _swinir(
        name="swinir_m",
        defaults=_SWIN_M,
        aliases=("swinir",),
    ),
    _swinir(
        name="swinir_l",
        at_scale={1: {"upsampler": ""}, 4: {"upsampler": "nearest+conv"}},
        defaults=_SWIN_L,
    ),
    _swin2sr(
        name="swin2sr_s",
        defaults=_SWIN_S,
        aliases=("swin2sr_light",),
    ),
    _swin2sr(
        name="swin2sr_m",
        defaults=_SWIN_M,
        aliases=("swin2sr",),
    ),
    _swin2sr(
        name="swin2sr_l",
        at_scale={1: {"upsampler": ""}, 4: {"upsampler": "nearest+conv"}},
        defaults=_SWIN_L,
    ),
    _hat(
        # The paper's three sizes; the small one squeezes its channels harder.
        name="hat_s",
        defaults={
            "embed_dim": 144,
            "depths": [6] * 6,
            "num_heads": [6] * 6,
            "window_size": 16,
            "compress_ratio": 24,
            "squeeze_factor": 24,
            "mlp_ratio": 2.0,
        },
    ),
    _hat(
        name="hat_m",
        defaults={
            "embed_dim": 180,
            "depths": [6] * 6,
            "num_heads": [6] * 6,
            "window_size": 16,
            "mlp_ratio": 2.0,
        },
        aliases=("hat",),
    ),
    _hat(
        name="hat_l",
        defaults={
            "embed_dim": 180,
            "depths": [6] * 12,
            "num_heads": [6] * 12,
            "window_size": 16,
            "mlp_ratio": 2.0,
        },
    ),
    _dat(
        # The paper's four sizes. Light is one long group, and the split windows tell 2 from S.
        name="dat_light",
        defaults={
            "embed_dim": 60,
            "depth": [18],
            "num_heads": [6],
            "expansion_factor": 2.0,
            "split_size": [8, 32],
            "resi_connection": "3conv",
            "upsampler": "pixelshuffledirect",
        },
    ),
    _dat(
        name="dat_s",
        defaults={
            "depth": [6] * 6,
            "num_heads": [6] * 6,
            "expansion_factor": 2.0,
            "split_size": [8, 16],
        },
    ),
    _dat(
        name="dat_2",
        defaults={
            "depth": [6] * 6,
            "num_heads": [6] * 6,
            "expansion_factor": 2.0,
            "split_size": [8, 32],
        },
    ),
    _dat(
        name="dat",
        defaults={
            "depth": [6] * 6,
            "num_heads": [6] * 6,
            "expansion_factor": 4.0,
            "split_size": [8, 32],
        },
    ),
    _drct(
        # The paper's two sizes: six and twelve groups.
        name="drct",
        defaults={"depths": [6] * 6, "num_heads": [6] * 6, "upsampler": "pixelshuffle"},
    ),
    _drct(
        name="drct_l",
        defaults={"depths": [6] * 12, "num_heads": [6] * 12, "upsampler": "pixelshuffle"},
    ),
    _atd(
        # The paper's two sizes.
        name="atd_light",
        at_scale={},  # spandrel tells the light variant, and so its categories, by this upsampler
        defaults={
            "embed_dim": 48,
            "depths": [6] * 4,
            "num_heads": [4] * 4,
            "window_size": 16,
            "category_size": 128,
            "num_tokens": 64,
            "reducted_dim": 8,
            "convffn_kernel_size": 7,
            "mlp_ratio": 1.0,
            "upsampler": "pixelshuffledirect",
        },
    ),
    _atd(
        name="atd",
        defaults={
            "embed_dim": 210,
            "depths": [6] * 6,
            "num_heads": [6] * 6,
            "window_size": 16,
            "category_size": 256,
            "num_tokens": 128,
            "reducted_dim": 20,
            "convffn_kernel_size": 5,
            "mlp_ratio": 2.0,
            "upsampler": "pixelshuffle",
        },
    ),
    _rgt(
        # The paper's two sizes: six and eight groups.
        name="rgt_s",
        defaults={"depth": [6] * 6, "num_heads": [6] * 6, "mlp_ratio": 2.0, "split_size": [8, 32]},
    ),
    _rgt(
        name="rgt",
        defaults={"depth": [6] * 8, "num_heads": [6] * 8, "mlp_ratio": 2.0, "split_size": [8, 32]},
    ),
    _fdat(
        # The author's five sizes.
        name="fdat_tiny",
        defaults={
            "embed_dim": 96,
            "num_groups": 2,
            "depth_per_group": 2,
            "num_heads": 3,
            "ffn_expansion_ratio": 1.5,
        },
    ),
    _fdat(
        name="fdat_light",
        defaults={"embed_dim": 108, "num_groups": 3, "depth_per_group": 2, "num_heads": 4},
    ),
    _fdat(
        name="fdat",
        defaults={"embed_dim": 120, "num_groups": 4, "depth_per_group": 3},
        aliases=("fdat_medium",),
    ),
    _fdat(
        name="fdat_large",
        defaults={"embed_dim": 180, "num_groups": 4, "depth_per_group": 4, "num_heads": 6},
    ),
    _fdat(
        name="fdat_xl",
        defaults={"embed_dim": 180, "num_groups": 6, "depth_per_group": 6, "num_heads": 6},
    ),
    _grl(
        # The paper's three sizes.
        name="grl_t",
        defaults={
            **_GRL_COMMON,
            "embed_dim": 64,
            "depths": [4] * 4,
            "num_heads_window": [2] * 4,
            "num_heads_stripe": [2] * 4,
            "upsampler": "pixelshuffledirect",
        },
    ),
    _grl(
        name="grl_s",
        defaults={
            **_GRL_COMMON,
            "embed_dim": 128,
            "depths": [4] * 4,
            "num_heads_window": [2] * 4,
            "num_heads_stripe": [2] * 4,
            "upsampler": "pixelshuffle",
        },
    ),
    _grl(
        name="grl_b",
        defaults={
            **_GRL_COMMON,
            "embed_dim": 180,
            "depths": [4, 4, 8, 8, 8, 4, 4],
            "num_heads_window": [3] * 7,
            "num_heads_stripe": [3] * 7,
            "upsampler": "pixelshuffle",
            "local_connection": True,
        },
    ),
    ArchSpec(
        # Windows of 8 pixels; five groups as in the paper.
        name="omnisr",
        architecture="OmniSR",
        class_name="OmniSR",
        scale_parameter="up_scale",
        scales=_ALL,
        defaults={"res_num": 5},
        size_multiple=8,
        min_size=16,
        stack="narrow",
        source="Omni-SR, 2023",
    ),
    ArchSpec(
        # Windows of 16 pixels.
        name="craft",
        architecture="CRAFT",
        class_name="CRAFT",
        scale_parameter="upscale",
        scales=_ALL,
        size_multiple=16,
        min_size=16,
        stack="wide",
        source="CRAFT, 2023",
    ),
    ArchSpec(
        name="dctlsa",
        architecture="DCTLSA",
        class_name="DCTLSA",
        scale_parameter="upscale",
        scales=_ALL,
        size_multiple=8,
        min_size=16,
        fp16=False,
        stack="narrow",
        source="DCTLSA, 2023",
    ),
    # The paper's two: three blocks, and one for devices.
    _ditn(name="ditn", defaults={"UFONE_blocks": 3}),
    _ditn(name="ditn_tiny", defaults={"UFONE_blocks": 1}),
)
