"""PyAV, imported when it is needed: only video needs it, and it is an extra."""

from __future__ import annotations

from types import ModuleType

from traiNNer.utils.errors import DataError

# The first one that converts colours accurately, and without threads, which do not survive a fork.
_OLDEST = 18
_INSTALL = f'pip install "av>={_OLDEST}"'


def import_av() -> ModuleType:
    """PyAV.

    Raises:
        DataError: if it is not installed, or too old.
    """
    try:
        import av
    except ImportError as error:
        raise DataError(
            f"video needs PyAV, which is not installed: {_INSTALL} (or, in the folder of this "
            f'program: pip install ".[video]"); Python says: {error}'
        ) from error
    if int(av.__version__.partition(".")[0]) < _OLDEST:
        raise DataError(
            f"video needs PyAV {_OLDEST} or later, and {av.__version__} is installed: {_INSTALL}"
        )
    return av
