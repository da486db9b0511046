"""What the rest of the program asks of a dataset: of one to judge by, and of one to train on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol, runtime_checkable

from traiNNer.data.sample import Sample, SampleRequest
from traiNNer.data.views import SizedDataset
from traiNNer.utils.pixel_store import PixelStore, StoredPicture


class EvalSet(Protocol):
    """A dataset whose pictures or clips can be read whole."""

    scale: int
    """How many times larger GT is than LQ, per side."""

    @property
    def frames(self) -> int:
        """Frames of a sample's LQ: 1 for images."""
        ...

    @property
    def target(self) -> Literal["all", "center"] | None:
        """Which frames of a clip GT is of; None for images. A clip of one frame is still a clip."""
        ...

    @property
    def lq_paths(self) -> list[str]:
        """What each element is called after: its LQ file, or the frame in the middle of its
        clip.
        """
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: SampleRequest, /) -> Sample: ...

    def for_validation(self) -> EvalSet:
        """The same pictures in the form that is judged: of clips one for every frame of a scene,
        images as they are.
        """
        ...

    def require_gt_side(self, side: int, what: str) -> None:
        """Refuse GT that is too small for `what`, whose sides have to be at least `side` pixels.

        Raises:
            DataError: naming the files.
        """
        ...

    def summary(self) -> str:
        """One line: how many there are, their sizes, what is unusual."""
        ...


# A set to train on can be judged by too, so it is asked for everything that those are.
class TrainingSet(EvalSet, SizedDataset, Protocol):
    """A dataset to train on: read in crops, or whole."""

    @property
    def largest_lq_size(self) -> int:
        """The largest crop in LQ pixels that all elements allow."""
        ...

    @property
    def left_out(self) -> int:
        """How many elements are left out as too small."""
        ...


@runtime_checkable
class StorableSet(Protocol):
    """A dataset whose pictures a store can keep."""

    def stored_pictures(self) -> Iterator[StoredPicture]:
        """Every picture or frame that it reads."""
        ...

    def use_store(self, store: PixelStore) -> None:
        """Read from `store` what has an entry there. Call it before the dataset goes to a
        loader.
        """
        ...
