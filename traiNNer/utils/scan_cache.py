"""Where what was read of data files is remembered."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from pathlib import Path

log = logging.getLogger(__name__)


def user_cache() -> Path | None:
    """The program's folder among the user's caches; None without a home."""
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    try:
        return Path(os.environ.get(variable) or Path.home() / ".cache") / "traiNNer"
    except RuntimeError as error:
        log.debug("nothing is remembered: %s", error)
        return None


def cache_path(root: Path) -> Path | None:
    """Where the headers of a folder or of a video are remembered; None without a home."""
    # The user's cache folder and not beside the data, which may be read-only or shared.
    base = user_cache()
    if base is None:
        return None
    try:
        # Resolved, so that a folder is known by any of its names; hashed, so that any name fits.
        key = hashlib.blake2b(
            str(root.resolve()).encode("utf-8", "surrogateescape"), digest_size=16
        ).hexdigest()
    except (RuntimeError, OSError, UnicodeError) as error:
        log.debug("headers are not remembered: %s", error)
        return None
    return base / "scan" / f"{key}.json"
