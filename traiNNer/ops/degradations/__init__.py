"""Degradations: steps that make LQ of ground truth. Importing this package registers them in
`traiNNer.utils.registry.DEGRADATIONS`.
"""

from traiNNer.ops.degradations import blur, compression, noise, resizing

__all__ = ["blur", "compression", "noise", "resizing"]
