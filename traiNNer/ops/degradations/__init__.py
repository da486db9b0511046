"""Degradations: steps that make LQ of ground truth. Importing this package registers them in
`traiNNer.utils.registry.DEGRADATIONS`.
"""

from traiNNer.ops.degradations import blur, codecs, compression, noise, resizing, signals

__all__ = ["blur", "codecs", "compression", "noise", "resizing", "signals"]
