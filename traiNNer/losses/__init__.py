"""Losses. Importing this package registers them in `traiNNer.utils.registry.LOSSES`, one module
each.
"""

from traiNNer.losses import (
    artifacts,
    classes,
    color,
    contextual,
    differences,
    difficulties,
    distributions,
    frequency,
    gan,
    ms_ssim,
    perceptual,
    perceptual_distance,
    pixel,
    structure,
)

__all__ = [
    "artifacts",
    "classes",
    "color",
    "contextual",
    "differences",
    "difficulties",
    "distributions",
    "frequency",
    "gan",
    "ms_ssim",
    "perceptual",
    "perceptual_distance",
    "pixel",
    "structure",
]
