"""Metrics. Importing this package registers them in `traiNNer.utils.registry.METRICS`, one module
each.
"""

from traiNNer.metrics import flicker, psnr_ssim

__all__ = ["flicker", "psnr_ssim"]
