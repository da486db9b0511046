"""Metrics. Importing this package registers them in `traiNNer.utils.registry.METRICS`, one module
each.
"""

from traiNNer.metrics import classes, flicker, psnr_ssim

__all__ = ["classes", "flicker", "psnr_ssim"]
