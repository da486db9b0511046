"""Where what was read of data files is remembered."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from pathlib import Path

log = logging.getLogger(__name__)


def cache_path(root: Path) -> Path | None:
    """Where the headers of a folder or of a video are remembered, in the user's cache folder; None
    without a home.
    """
    # The user's cache folder and not beside the data, which may be read-only or shared.
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    try:
        base = Path(os.environ.get(variable) or Path.home() / ".cache")
        # Resolved, so that a folder is known by any of its names; hashed, so that any name fits.
        key = hashlib.blake2b(
            str(root.resolve()).encode("utf-8", "surrogateescape"), digest_size=16
        ).hexdigest()
    except (RuntimeError, OSError, UnicodeError) as error:
        log.debug("headers are not remembered: %s", error)
        return None
    return base / "traiNNer" / "scan" / f"{key}.json"
