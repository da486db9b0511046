"""Where the pixels of a scanned image come from: decoded from its file, or a store of a program's
or a user's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from traiNNer.data.scan import ScannedImage
from traiNNer.utils.images import Pixels, read_image
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


@SOURCES.register("files")
@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Decodes the file, each time that it is asked."""

    def read(self, image: ScannedImage) -> Pixels:
        """See `PixelSource.read`."""
        return read_image(image.path)


# The default of the datasets; it has no state, so all of them share it.
IMAGE_FILES = ImageFiles()
