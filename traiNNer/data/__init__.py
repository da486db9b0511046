"""Datasets, and the loaders that read from them. Importing this package registers the datasets."""

from traiNNer.data.loader import (
    ReadErrors,
    RequestSampler,
    TrainLoader,
    WorkerError,
    eval_batches,
    explain_worker_death,
)
from traiNNer.data.paired_image_dataset import PairedImageDataset
from traiNNer.data.sample import Batch, Sample, SampleRequest, collate
from traiNNer.data.single_image_dataset import SingleImageDataset

__all__ = [
    "Batch",
    "PairedImageDataset",
    "ReadErrors",
    "RequestSampler",
    "Sample",
    "SampleRequest",
    "SingleImageDataset",
    "TrainLoader",
    "WorkerError",
    "collate",
    "eval_batches",
    "explain_worker_death",
]
