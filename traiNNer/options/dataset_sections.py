"""The sections of the datasets."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from traiNNer.options.augmentations import AugmentationOptions
from traiNNer.options.components import Component, Section
from traiNNer.options.curriculum import CurriculumOptions
from traiNNer.options.entries import OrderOptions, Positive, SourceOptions
from traiNNer.options.problems import OptionProblems, raise_at
from traiNNer.utils.registry import DATASETS

# Names become folders, on Windows too: no slash, no colon, no dot or blank at the beginning.
FOLDER_NAME = r"^[\w][\w .+-]*$"


class DatasetOptions(Component):
    """What every dataset section has; the other keys belong to the dataset class that `type`
    names.
    """

    registry = DATASETS
    # `source` is made of the section's own one, `unusable` is for programs that go on without
    # single files; it has no form in YAML.
    injected = frozenset({"scale", "source", "unusable"})

    type: str
    """Dataset class, for example PairedImageDataset."""
    name: str | None = Field(default=None, min_length=1, max_length=100, pattern=FOLDER_NAME)
    """Name in messages, in TensorBoard and of result folders. Left out: the section's key."""
    # More processes than that are a typing error, and would take the machine down.
    num_worker_per_gpu: Literal["auto"] | Annotated[int, Field(ge=0, le=256)] = "auto"
    """Processes that read images. 0 reads in the training process; auto: up to 8 with a GPU, at
    most 2 without."""
    source: SourceOptions | None = None
    """Where pixels come from. Left out: decoded from the files."""


class TrainDatasetOptions(DatasetOptions):
    """The dataset to train on."""

    read_errors: Literal["error", "skip"] = "error"
    """An unreadable image stops the run, or is replaced by the next readable one, counted and
    reported."""
    lq_size: Positive = 64
    """Side of the square training patch in LQ pixels; on the GT side it is lq_size * scale."""
    batch_size_per_gpu: Positive = 8
    """Patches in a batch."""
    accum_iter: Positive = 1
    """Batches whose gradients are summed before the weights change; one iteration reads all of
    them."""
    dataset_enlarge_ratio: Annotated[Positive, Field(le=100_000)] = 1
    """How often each image is seen in an epoch, each time with another crop."""
    cache: Literal["auto", "none", "disk"] = "auto"
    """Keep decoded pictures, so that later crops are read and not decoded. auto: where all of them
    fit into half of what is free, and into 64 GiB; disk: as many as fit."""
    cache_dir: str | None = None
    """Folder of the decoded pictures, which runs share. Left out: in the user's folder for
    caches."""
    cache_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """GiB that the decoded pictures may take; those that were used longest ago are removed."""
    order: OrderOptions | None = None
    """In which order the images are visited. Left out: shuffled anew for each epoch."""
    curriculum: CurriculumOptions | None = None
    """Easy images first. Left out: all are visited alike."""
    report_hardest: bool = False
    """Note how hard each sample is, and write the hardest and the easiest places of the images at
    the end, as a sheet and a table: wrong pairs are mostly among the first."""
    scales: Annotated[list[Positive], Field(min_length=2)] | None = None
    """Train each patch at several sizes, sides in LQ pixels, the largest of which is lq_size. The
    smaller ones are the patch shrunk, LQ and GT alike; where lq_size grows they keep the
    proportion."""
    memory_efficient: bool = True
    """Read and send the largest of the scales only, and make the others on the device. false: make
    them in the processes that read."""

    augmentations: AugmentationOptions = Field(default_factory=AugmentationOptions)
    """Augmentations that mix samples, or LQ and GT of one."""

    @property
    def difficulty(self) -> str | None:
        """What tells how hard a sample is; None where nobody asks."""
        if self.curriculum is not None:
            return self.curriculum.difficulty
        return "loss" if self.report_hardest else None

    @property
    def clip_frames(self) -> int | None:
        """clip_size of a dataset that has one; None of images."""
        clip_size = inspect.signature(self.entry).parameters.get("clip_size")
        return None if clip_size is None else self.params.get("clip_size", clip_size.default)


class _DatasetsBase(Section):
    """Dataset sections by key."""

    model_config = ConfigDict(extra="allow")
    # Narrower than the base's, which takes anything.
    __pydantic_extra__: dict[  # pyright: ignore[reportIncompatibleVariableOverride]
        str, DatasetOptions
    ]
    prefixes: ClassVar[tuple[str, ...]]

    @model_validator(mode="wrap")
    @classmethod
    def _known_keys(cls, data: Any, handler: Callable[[Any], Any]) -> Any:
        """Reports unknown keys together with what is wrong inside the known ones."""
        if not isinstance(data, dict):
            return handler(data)
        problems = OptionProblems()
        allowed = [*cls.model_fields, *(f"{prefix}*" for prefix in cls.prefixes)]
        sections: dict[Any, Any] = {}
        for key, value in data.items():
            if key in cls.model_fields or str(key).startswith(cls.prefixes):
                sections[key] = value
            else:
                problems.add((key,), "unknown key", value, "extra_forbidden", allowed=allowed)
        section = None
        with problems.collecting():
            section = handler(sections)
        problems.raise_if_any(cls.__name__)
        return section

    @model_validator(mode="after")
    def _different_names(self) -> Self:
        keys: dict[str, str] = {}
        for key, section in self.evaluated.items():
            name = section.name or key
            if name in keys:
                message = f"{keys[name]} has that name too; each set needs its own"
                raise_at([(key, "name")], message, value=name)
            keys[name] = key
        return self

    @property
    def evaluated(self) -> dict[str, DatasetOptions]:
        """The sections whose images are read whole: val* while training, test* for test.py."""
        return dict(self.__pydantic_extra__ or {})


class TrainingDatasets(_DatasetsBase):
    """`train`, and any number of sections whose keys begin with `val`."""

    # Other keys are typing errors more often than sets for other programs.
    prefixes = ("val",)

    train: TrainDatasetOptions
    """The dataset to train on."""


class TestDatasets(_DatasetsBase):
    """Any number of sections whose keys begin with `test` or `val`."""

    __test__: ClassVar[bool] = False  # no test class, whatever pytest thinks of the name
    prefixes = ("test", "val")

    @model_validator(mode="after")
    def _not_empty(self) -> TestDatasets:
        if not self.evaluated:
            raise PydanticCustomError(
                "value", "expected at least one section whose key begins with test"
            )
        return self
