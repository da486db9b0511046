"""Losses. Importing this package registers them in `traiNNer.utils.registry.LOSSES`, one module
each.
"""

from traiNNer.losses import ms_ssim, pixel

__all__ = ["ms_ssim", "pixel"]
