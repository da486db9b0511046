"""Whether pictures are kept decoded, where, and how many of them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from traiNNer.data.pixel_source import IMAGE_FILES
from traiNNer.data.protocols import StorableSet
from traiNNer.data.scan import without_collection
from traiNNer.options.dataset_sections import TrainDatasetOptions
from traiNNer.utils.errors import DataError, OptionsError
from traiNNer.utils.files import at_home
from traiNNer.utils.pixel_store import PixelStore, StoredPicture
from traiNNer.utils.scan_cache import user_cache
from traiNNer.utils.text import gib, plural

log = logging.getLogger(__name__)
# What auto takes of a disk: more than most data sets need, and never more than half of what is
# free. Whoever wants more says so.
_AUTO_BYTES = 64 * 2**30
# Left free by `disk` without a size, for checkpoints and whatever else runs.
_LEFT_FREE = 4 * 2**30


@dataclass
class PixelCache:
    """Where a training set's decoded pictures are kept, and those that it is validated on.

    Attributes:
        dataset: that is trained on.
        store: keeps them; None decodes them for each crop.
        nbytes: that the store may take.
        summary: a line for the plan.
        keeps_all: whether all pictures that are trained on fit.
        evaluated: to validate on, the sets that fit as well.
    """

    dataset: object
    store: PixelStore | None
    nbytes: int
    summary: str
    keeps_all: bool = False
    evaluated: tuple[StorableSet, ...] = ()
    _was_asked: bool = field(init=False, default=False)

    def look(self) -> bool:
        """Whether every picture is there, asked once in an epoch: from the second time on, what is
        missing is kept as soon as it is read.
        """
        if self._was_asked and self.store is not None:
            self.store.stop_waiting()
        self._was_asked = True
        return self.is_complete()

    def is_complete(self) -> bool:
        """Whether every picture that is trained on is there, by a look at the disk."""
        if self.store is None or not self.keeps_all or not isinstance(self.dataset, StorableSet):
            return False
        pictures = list(self.dataset.stored_pictures())
        return self.store.count(pictures) == len(pictures)

    def advice(self, by_processes: bool) -> str:
        """Why data is waited for, and what helps.

        Args:
            by_processes: whether processes read.
        """
        more = "a higher num_worker_per_gpu, up to the number of cores"
        if not by_processes:
            more = "num_worker_per_gpu: 1 or more"
        if self.store is None:
            kept = "" if self.summary.startswith("as the") else "cache: disk, or "
            return f"pictures are {self.summary}. What helps: {kept}{more}"
        if not self.keeps_all:
            return (
                f"not all pictures fit: {self.summary}. What helps: {more}, or a higher cache_gib"
            )
        if not self.is_complete():
            return (
                "pictures are decoded while they are being kept, and later epochs read them from "
                f"{self.store.folder}; scripts/data_preparation/build_store.py does that ahead"
            )
        return (
            "all pictures are kept decoded, so it is what is done to the samples, or the disk that "
            f"is slow. What helps: {more}, or a cache_dir on a faster disk"
        )

    def open(self) -> None:
        """Make room for what is going to be kept. What cannot be kept is said, and decoded."""
        if self.store is None or not isinstance(self.dataset, StorableSet):
            return
        try:
            pictures = _pictures_of((self.dataset, *self.evaluated))
            removed = self.store.make_room(pictures, self.nbytes)
        except DataError as error:
            log.warning("pictures are decoded for each crop: none can be kept in %s", error)
            self.store.keep_none()
            self.store = None
            self.summary = "decoded for each crop: nowhere to keep them"
            return
        if removed:
            log.info(
                "%s of other runs removed from %s, to make room",
                plural(removed, "decoded picture"),
                self.store.folder,
            )


@without_collection()
def plan_cache(
    section: TrainDatasetOptions, dataset: object, evaluated: Iterable[object] = ()
) -> PixelCache:
    """Decide what is kept, and have the datasets read from there. Nothing is written.

    Args:
        section: of the options.
        dataset: to train on.
        evaluated: to validate on; kept in this order where everything before them fits.

    Raises:
        OptionsError: if the options ask for what the dataset cannot do.
    """
    if section.cache == "none":
        return PixelCache(dataset, None, 0, "decoded for each crop (cache: none)")
    asked = section.cache == "disk"
    if not isinstance(dataset, StorableSet) or (section.source is not None and not asked):
        if asked:
            raise OptionsError(f"{section.type} keeps no decoded pictures; leave cache out")
        return PixelCache(dataset, None, 0, "as the dataset reads them")
    folder = _folder(section.cache_dir)
    if folder is None:
        return PixelCache(dataset, None, 0, "decoded for each crop: no folder for caches is known")
    store = PixelStore(folder)
    pictures = list(dataset.stored_pictures())
    present = store.count(pictures)
    allowed = _allowed(section, store)
    nbytes = sum(picture.nbytes for picture in pictures)
    noun = plural(len(pictures), "picture")
    if nbytes > allowed and not asked and section.cache_gib is None:
        why = f"{noun} would take {gib(nbytes)}, and auto may take {gib(allowed)} of {folder}"
        return PixelCache(dataset, None, 0, f"decoded for each crop: {why} (cache: disk)")
    kept = store.keep_within(pictures, allowed)
    keeps_all = kept == len(pictures)
    also = _keep_also(evaluated, pictures, allowed, store) if keeps_all else ()
    for each in (dataset, *also):
        each.use_store(store)
    which = noun if keeps_all else f"{kept:,} of {noun}"
    there = "all" if present == len(pictures) else f"{present:,}"
    size = gib(min(nbytes, allowed))
    text = f"{which} decoded once and kept, {size} in {folder} ({there} there)"
    if also:
        more = list(_pictures_of(also))
        size = gib(sum(picture.nbytes for picture in more))
        text += f", and {len(more):,} to validate on, {size}"
    return PixelCache(dataset, store, allowed, text, keeps_all, also)


def _keep_also(
    evaluated: Iterable[object], pictures: list[StoredPicture], nbytes: int, store: PixelStore
) -> tuple[StorableSet, ...]:
    """The sets to validate on that fit as well, in `nbytes` beside `pictures`: `store` keeps them
    from now on.
    """
    kept: list[StorableSet] = []
    held = {picture.key: picture for picture in pictures}
    for images in evaluated:
        # A source of a user's own may give other pixels than the file's.
        is_plain = getattr(images, "source", IMAGE_FILES) is IMAGE_FILES
        if not is_plain or not isinstance(images, StorableSet):
            continue
        more = held | {picture.key: picture for picture in images.stored_pictures()}
        if store.keep_within(more.values(), nbytes) == len(more):
            held = more
            kept.append(images)
    store.keep_within(held.values(), nbytes)
    return tuple(kept)


def _pictures_of(datasets: Iterable[StorableSet]) -> Iterator[StoredPicture]:
    return (picture for dataset in datasets for picture in dataset.stored_pictures())


def _folder(named: str | None) -> Path | None:
    if named is not None:
        try:
            return Path(at_home(named)).absolute()
        except ValueError as error:
            raise OptionsError(f"cache_dir {error}") from error
    base = user_cache()
    return None if base is None else base / "pixels"


def _allowed(section: TrainDatasetOptions, store: PixelStore) -> int:
    """Bytes that the store may take, with what it holds already."""
    if section.cache_gib is not None:
        return int(section.cache_gib * 2**30)
    existing = store.folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        free = shutil.disk_usage(existing).free + store.held_bytes()
    except OSError:
        return 0
    if section.cache == "disk":
        return max(0, free - _LEFT_FREE)
    return min(_AUTO_BYTES, free // 2)
