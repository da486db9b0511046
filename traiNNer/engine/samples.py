"""What the network is trained on, as a picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.data import DynamicDataLoaderWrapper
from traiNNer.ops.color import to_float
from traiNNer.utils.errors import DataError

# Samples in a row: as many as a screen has room for.
_SHOWN = 8
# Grey pixels between two samples.
_GAP = 4


def samples_sheet(loader: DynamicDataLoaderWrapper) -> Tensor | None:
    """The next training samples (3, H, W): LQ, each pixel as a square, above GT, as they are drawn
    for the network. They are read for the picture alone, in this process; the stream goes on as if
    they were not. None where there is nothing to show: clips, and what cannot be read.
    """
    columns: list[Tensor] = []
    for position in range(loader.samples_consumed, loader.samples_consumed + _SHOWN):
        try:
            sample = loader.dataset[loader.sampler.request(position)]
        except (DataError, MemoryError):
            # Whoever reads it for a step will tell; a picture is no reason to end a run.
            return None
        if sample.lq is None or sample.lq.ndim != 3:
            return None
        lq = to_float(sample.lq)
        if sample.gt is None:
            columns.append(lq)
            continue
        gt = to_float(sample.gt)
        factor = gt.shape[-1] // lq.shape[-1]
        enlarged = lq.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
        columns.append(torch.cat([F.pad(enlarged, (0, 0, 0, _GAP), value=0.5), gt], -2))
    return torch.cat([F.pad(column, (0, _GAP), value=0.5) for column in columns], -1)
