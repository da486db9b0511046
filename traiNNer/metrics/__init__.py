"""Metrics. Importing this package registers them in `traiNNer.utils.registry.METRICS`, one module
each.
"""

from traiNNer.metrics import classes, flicker, learned, ms_ssim, psnr_ssim

__all__ = ["classes", "flicker", "learned", "ms_ssim", "psnr_ssim"]
