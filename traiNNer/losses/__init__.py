"""Losses. Importing this package registers them in `traiNNer.utils.registry.LOSSES`, one module
each.
"""

from traiNNer.losses import (
    classes,
    color,
    differences,
    difficulties,
    frequency,
    gan,
    ms_ssim,
    perceptual,
    perceptual_distance,
    pixel,
    structure,
)

__all__ = [
    "classes",
    "color",
    "differences",
    "difficulties",
    "frequency",
    "gan",
    "ms_ssim",
    "perceptual",
    "perceptual_distance",
    "pixel",
    "structure",
]
