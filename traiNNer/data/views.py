"""Looking through torch's Subset and ConcatDataset, whose own indexing takes plain integers
only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol, cast, runtime_checkable

from torch.utils.data import ConcatDataset, Dataset, Subset

from traiNNer.data.sample import Sample, SampleRequest


@runtime_checkable
class SizedDataset(Protocol):
    """A dataset that crops to the size a request names."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: SampleRequest, /) -> Sample: ...

    def require_lq_size(self, lq_size: int, indices: Sequence[int] | None = None) -> None:
        """Prepare for crops of up to `lq_size` pixels of the named elements (None: of all, whose
        number may change).
        """
        ...

    def largest_lq_size_of(self, indices: Sequence[int] | None) -> int:
        """The largest crop in LQ pixels that the named elements (None: all) allow."""
        ...


def leaves(
    dataset: object, indices: Sequence[int] | None = None
) -> Iterator[tuple[object, Sequence[int] | None]]:
    """The datasets below all Subsets and ConcatDatasets, and which of their elements are used
    (None: all).

    Args:
        dataset: any dataset.
        indices: which of its elements; None for all.
    """
    if isinstance(dataset, Subset):
        inner = cast("Sequence[int]", dataset.indices)
        places = range(len(inner)) if indices is None else indices
        yield from leaves(dataset.dataset, [inner[index] for index in places])
    elif isinstance(dataset, ConcatDataset):
        # Not from its `cumulative_sizes`, which are older than what the parts have left out since.
        first = 0
        for part in dataset.datasets:
            end = first + view_length(part)
            if indices is None:
                yield from leaves(part)
            # A part of which nothing is used has no say in what is too small.
            elif inside := [index - first for index in indices if first <= index < end]:
                yield from leaves(part, inside)
            first = end
    else:
        yield dataset, indices


def depends_on_size(dataset: object) -> bool:
    """Whether a request of a smaller size gives other pixels than a crop of a larger one would: LQ
    that is degraded while reading is degraded for its size.
    """
    return any(getattr(leaf, "depends_on_size", False) for leaf, _ in leaves(dataset))


def view_length(dataset: object) -> int:
    """The number of elements; of a ConcatDataset as its parts are now, not as they were when it was
    made.
    """
    if isinstance(dataset, ConcatDataset):
        return sum(view_length(part) for part in dataset.datasets)
    return len(cast("Any", dataset))


def locate(dataset: object, index: int) -> tuple[object, int]:
    """The dataset below all Subsets and ConcatDatasets that has the element, and its index there.

    Raises:
        IndexError: if there is no such element.
    """
    if not 0 <= index < view_length(dataset):
        raise IndexError(f"there is no element {index} among {view_length(dataset)}")
    # A view of views is taken off layer by layer.
    while True:
        if isinstance(dataset, Subset):
            index = cast("Sequence[int]", dataset.indices)[index]
            dataset = dataset.dataset
        elif isinstance(dataset, ConcatDataset):
            for part in dataset.datasets:
                if index < view_length(part):
                    dataset = part
                    break
                index -= view_length(part)
        else:
            return dataset, index


def unwrap_dataset(dataset: object) -> Any:
    """The dataset below all Subsets, and below what has a `base_dataset` or a `dataset` of its own;
    of a ConcatDataset the first one.
    """
    while True:
        dataset, _ = next(leaves(dataset))
        inner = getattr(dataset, "base_dataset", getattr(dataset, "dataset", None))
        if inner is None:
            return dataset
        dataset = inner


class DatasetOver(Dataset[Sample]):
    """What datasets have in common that change the samples of another one.

    Args:
        base_dataset: takes sized requests; or a torch Subset or ConcatDataset of such, to any
            depth.
    """

    def __init__(self, base_dataset: SizedDataset | Dataset[Sample]) -> None:
        self.base_dataset = base_dataset

    @property
    def depends_on_size(self) -> bool:
        """See `depends_on_size`."""
        return depends_on_size(self.base_dataset)

    @property
    def frames(self) -> int:
        """Frames of a sample's LQ: 1 for images."""
        return max(getattr(leaf, "frames", 1) for leaf, _ in leaves(self.base_dataset))

    @property
    def target(self) -> Literal["all", "center"] | None:
        """Which frames of a clip GT is of; None for images."""
        return getattr(unwrap_dataset(self), "target", None)

    def __len__(self) -> int:
        return view_length(self.base_dataset)

    def read_below(self, request: SampleRequest) -> Sample:
        """The sample of a request as the dataset below gives it.

        Raises:
            DataError: as that raises it.
        """
        leaf, inner = locate(self.base_dataset, request.index)
        sample = cast("SizedDataset", leaf)[SampleRequest(inner, request.lq_size, request.seed)]
        sample.index = request.index
        return sample

    def require_lq_size(self, lq_size: int, indices: Sequence[int] | None = None) -> None:
        """See `SizedDataset`."""
        for leaf, own in leaves(self.base_dataset, indices):
            cast("SizedDataset", leaf).require_lq_size(lq_size, own)

    def largest_lq_size_of(self, indices: Sequence[int] | None) -> int:
        """See `SizedDataset`."""
        return min(
            cast("SizedDataset", leaf).largest_lq_size_of(own)
            for leaf, own in leaves(self.base_dataset, indices)
        )
