"""The catalogue's networks for super-resolution that use attention."""

from __future__ import annotations

from functools import partial

from traiNNer.archs.spec import ArchSpec

_ALL = (1, 2, 3, 4, 8)
# At scale 1 these networks learn the difference to their input, as their authors do for denoising.
_RESIDUAL_AT_1 = {1: {"upsampler": ""}}

# SwinIR and Swin2SR have the same variants.
_SWIN_S = {
    "embed_dim": 60, "depths": [6] * 4, "num_heads": [6] * 4, "window_size": 8, "mlp_ratio": 2.0,
    "upsampler": "pixelshuffledirect",
}  # fmt: skip
_SWIN_M = {
    "embed_dim": 180, "depths": [6] * 6, "num_heads": [6] * 6, "window_size": 8, "mlp_ratio": 2.0,
    "upsampler": "pixelshuffle",
}  # fmt: skip
_SWIN_L = {
    "embed_dim": 240, "depths": [6] * 9, "num_heads": [8] * 9, "window_size": 8, "mlp_ratio": 2.0,
    "upsampler": "pixelshuffle", "resi_connection": "3conv",
}  # fmt: skip
_swinir = partial(
    ArchSpec,
    architecture="SwinIR",
    class_name="SwinIR",
    scale_parameter="upscale",
    scales=_ALL,
    at_scale=_RESIDUAL_AT_1,
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
_dat = partial(
    ArchSpec,
    architecture="DAT",
    class_name="DAT",
    scale_parameter="upscale",
    scales=_ALL,
    size_multiple=32,
    min_size=32,
    min_batch=2,
    fp16=False,
    stack="wide",
    source="DAT, 2023",
    note="has batch norms over one value per channel: batches of one cannot be trained on",
)
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
_grl = partial(
    ArchSpec,
    architecture="GRL",
    class_name="GRL",
    scale_parameter="upscale",
    scales=_ALL,
    # What cannot be read from the weights and spandrel assumes: large windows above scale 1, small
    # ones at it.
    at_scale={1: {"upsampler": "", "window_size": 8, "stripe_size": [8, 8]}},
    hidden=("fairscale_checkpoint", "offload_to_cpu"),
    size_multiple=64,
    min_size=64,
    fp16=False,
    stack="narrow",
    source="GRL, 2023",
)
_GRL_COMMON = {
    "window_size": 32, "stripe_size": [64, 64], "stripe_shift": True, "mlp_ratio": 2.0, "anchor_window_down_factor": 4,
}  # fmt: skip
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
        name="drct",
        defaults={"depths": [6] * 6, "num_heads": [6] * 6, "upsampler": "pixelshuffle"},
    ),
    _drct(
        name="drct_l",
        defaults={"depths": [6] * 12, "num_heads": [6] * 12, "upsampler": "pixelshuffle"},
    ),
    _atd(
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
        name="rgt_s",
        defaults={"depth": [6] * 6, "num_heads": [6] * 6, "mlp_ratio": 2.0, "split_size": [8, 32]},
    ),
    _rgt(
        name="rgt",
        defaults={"depth": [6] * 8, "num_heads": [6] * 8, "mlp_ratio": 2.0, "split_size": [8, 32]},
    ),
    _fdat(
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
    _ditn(name="ditn", defaults={"UFONE_blocks": 3}),
    _ditn(name="ditn_tiny", defaults={"UFONE_blocks": 1}),
)
