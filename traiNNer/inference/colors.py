"""What the sources of results say about their colours, and what of it results cannot say."""

from __future__ import annotations

import logging
from pathlib import Path

from traiNNer.utils.errors import DataError
from traiNNer.utils.images import Colors, read_colors
from traiNNer.utils.text import plural

log = logging.getLogger(__name__)


class LostColors:
    """Reads the colours of sources for their results, and remembers those that a PNG cannot keep.

    Args:
        name: of the dataset, for the warning.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self._example = ""

    def read(self, source: Path) -> Colors:
        """What a result says of its colours: the same as its source."""
        try:
            colors = read_colors(source)
        except DataError as error:
            # Its pixels were read: only somebody who replaces files meanwhile gets here.
            log.debug("%s", error)
            return Colors()
        if colors.name and not colors.fits_png:
            self._count += 1
            self._example = self._example or f"{source}: {colors.name}"
        return colors

    def warn(self) -> None:
        """Say what was lost, if anything was."""
        if self._count:
            log.warning(
                "%s: the colours of %s cannot be written into a colour PNG, so viewers take the "
                "result for sRGB, for example %s; convert them to sRGB before",
                self._name, plural(self._count, "image"), self._example,
            )  # fmt: skip
