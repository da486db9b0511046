"""Metrics. Importing this package registers them in `traiNNer.utils.registry.METRICS`, one module each."""

from traiNNer.metrics import psnr_ssim

__all__ = ["psnr_ssim"]
