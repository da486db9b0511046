"""Where the pixels of a scanned image come from: decoded from its file, or a store of a program's
or a user's own.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from traiNNer.data.scan import ScannedImage
from traiNNer.utils.images import Pixels, read_image, read_top
from traiNNer.utils.pixel_store import PixelStore, StoredPicture
from traiNNer.utils.registry import SOURCES


class PixelSource(Protocol):
    """Gives the pixels of an image.

    It travels to the processes that read, so it can be pickled. A store that keeps pixels can tell
    by `ScannedImage.stamp` whether the file is still the one that it keeps.
    """

    def read(self, image: ScannedImage) -> Pixels:
        """The whole image in RGB, (H, W, 3), uint8 or uint16; it may be read-only.

        Raises:
            DataError: if it cannot be read.
        """
        ...


@runtime_checkable
class TopSource(Protocol):
    """A source that can do with less than the whole image."""

    def read_top(self, image: ScannedImage, rows: int) -> Pixels:
        """The first rows of the image, or all of it where that is no more work.

        Raises:
            DataError: if it cannot be read.
        """
        ...


@SOURCES.register("files")
@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Decodes the file, each time that it is asked."""

    def read(self, image: ScannedImage) -> Pixels:
        """See `PixelSource.read`."""
        return read_image(image.path)

    def read_top(self, image: ScannedImage, rows: int) -> Pixels:
        """See `TopSource.read_top`."""
        return read_top(image.path, rows)


# The default of the datasets; it has no state, so all of them share it.
IMAGE_FILES = ImageFiles()


@dataclass(frozen=True, slots=True)
class StoredImages:
    """Reads from a store what has an entry there, and asks another source for the rest.

    Args:
        store: of decoded pictures.
        source: decodes what the store does not have yet.
    """

    store: PixelStore
    source: PixelSource = IMAGE_FILES

    def read(self, image: ScannedImage) -> Pixels:
        """See `PixelSource.read`."""
        picture = stored_picture(image)
        if picture is None:
            return self.source.read(image)
        return self.store.read(picture, lambda: self.source.read(image))

    def read_top(self, image: ScannedImage, rows: int) -> Pixels:
        """See `TopSource.read_top`."""
        picture = stored_picture(image)
        if picture is None:
            return top_of(self.source, image, rows)
        return self.store.read(
            picture,
            lambda: self.source.read(image),
            lambda: top_of(self.source, image, rows),
        )


def top_of(source: PixelSource, image: ScannedImage, rows: int) -> Pixels:
    """The first rows of an image, or more.

    Raises:
        DataError: if it cannot be read.
    """
    if isinstance(source, TopSource):
        return source.read_top(image, rows)
    return source.read(image)


class ElementOfImages(Protocol):
    """An element of a dataset."""

    @property
    def images(self) -> tuple[ScannedImage, ...]:
        """The files that it is read from."""
        ...


class ImagesOfStore(ABC):
    """What datasets of images share that read from a `source`: a store can be put before it.

    Attributes:
        source: where pixels come from.
    """

    source: PixelSource

    @property
    @abstractmethod
    def elements(self) -> Sequence[ElementOfImages]:
        """What is read."""

    def scanned_images(self) -> Iterator[ScannedImage]:
        """Every image that is read."""
        return (image for element in self.elements for image in element.images)

    def stored_pictures(self) -> Iterator[StoredPicture]:
        """See `StorableSet`."""
        pictures = map(stored_picture, self.scanned_images())
        return (picture for picture in pictures if picture is not None)

    def use_store(self, store: PixelStore) -> None:
        """See `StorableSet`."""
        self.source = StoredImages(store, self.source)


def stored_picture(image: ScannedImage) -> StoredPicture | None:
    """What an image is called in a store; None for what is more than one file."""
    if image.stamp is None:
        return None
    header = image.header
    # Not a Path, which takes longer to join than a picture to open.
    path = f"{_absolute(image.root)}{os.sep}{image.name}"
    return StoredPicture.of(path, image.stamp, (header.height, header.width), header.bits)


@cache
def _absolute(root: Path) -> str:
    return str(root.absolute())
