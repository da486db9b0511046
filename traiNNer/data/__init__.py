"""Datasets, and the loaders that read from them. Importing this package registers the datasets."""

from traiNNer.data.dynamic_dataloader_wrapper import (
    DynamicDataLoaderWrapper,
    DynamicDatasetWrapper,
    PairedImageDatasetDynamicMixin,
    PairedVideoDatasetDynamicMixin,
)
from traiNNer.data.image_folder_dataset import ImageFolderDataset
from traiNNer.data.loader import ReadErrors, RequestSampler, eval_batches
from traiNNer.data.mixing import MixedDataset
from traiNNer.data.optimized_dataloader import create_dataloaders
from traiNNer.data.paired_image_dataset import PairedImageDataset
from traiNNer.data.paired_video_dataset import PairedVideoDataset
from traiNNer.data.sample import Batch, Sample, SampleRequest, collate
from traiNNer.data.scales import MultiScaleDataset, materialize_scale
from traiNNer.data.single_gt_dataset import SingleGtDataset
from traiNNer.data.single_gt_video_dataset import SingleGtVideoDataset
from traiNNer.data.single_image_dataset import SingleImageDataset
from traiNNer.data.single_video_dataset import SceneStream, SingleVideoDataset
from traiNNer.data.views import SizedDataset, unwrap_dataset
from traiNNer.data.workers import WorkerError, explain_worker_death

__all__ = [
    "Batch",
    "DynamicDataLoaderWrapper",
    "DynamicDatasetWrapper",
    "ImageFolderDataset",
    "MixedDataset",
    "MultiScaleDataset",
    "PairedImageDataset",
    "PairedImageDatasetDynamicMixin",
    "PairedVideoDataset",
    "PairedVideoDatasetDynamicMixin",
    "ReadErrors",
    "RequestSampler",
    "Sample",
    "SampleRequest",
    "SceneStream",
    "SingleGtDataset",
    "SingleGtVideoDataset",
    "SingleImageDataset",
    "SingleVideoDataset",
    "SizedDataset",
    "WorkerError",
    "collate",
    "create_dataloaders",
    "eval_batches",
    "explain_worker_death",
    "materialize_scale",
    "unwrap_dataset",
]
