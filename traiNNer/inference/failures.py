"""What went wrong with single files of a test, which does not end the others' work."""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence

from traiNNer.utils.errors import DataError, TraiNNerError
from traiNNer.utils.names import visible
from traiNNer.utils.out_of_memory import is_out_of_memory
from traiNNer.utils.text import plural

log = logging.getLogger(__name__)

# All files that follow would fail as well: no room, quota used up, read-only, broken disk.
_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
# As many as fit a screen beside the table.
_MOST_SHOWN = 20


class IncompleteError(TraiNNerError):
    """Some of the files of a test could not be processed; the others were."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Failures:
    """Collects them for the end."""

    def __init__(self) -> None:
        self._messages: list[str] = []
        self._exit_code = DataError.exit_code

    def add(self, name: str, error: Exception) -> None:
        """Note that a file failed, and say so now.

        Raises:
            Exception: `error` itself, if all others would fail for the same reason, or if it is
                none of those that a file can cause.
        """
        if not _concerns_one_file(error):
            raise error
        if not isinstance(error, DataError):
            self._exit_code = 1
        message = str(error) or type(error).__name__
        if is_out_of_memory(error):
            first = message.splitlines()[0]
            message = f"out of memory ({first}); set val.tile_size, or lower it"
        self.say(message if name in message else f"{name}: {message}")

    def say(self, message: str) -> None:
        """Note what is known in words."""
        self._messages.append(message)
        log.error("%s", visible(message))

    def extend(self, messages: Sequence[str]) -> None:
        """Note what was found by the scan."""
        for message in messages:
            self.say(message)

    def raise_if_any(self) -> None:
        """To be called when all else is done.

        Raises:
            IncompleteError: listing what was noted. It ends the program with 2 if the files are at
                fault, else with 1.
        """
        if not self._messages:
            return
        lines = [f"all is done but {plural(len(self._messages), 'thing')}:"]
        lines += [f"    {visible(message)}" for message in self._messages[:_MOST_SHOWN]]
        if len(self._messages) > _MOST_SHOWN:
            lines.append(f"    ... and {len(self._messages) - _MOST_SHOWN} more, see above")
        raise IncompleteError("\n".join(lines), self._exit_code)


def _concerns_one_file(error: Exception) -> bool:
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and cause.errno in _HOPELESS:
        return False
    # A picture may be too large for the memory, and the next one not.
    return isinstance(error, TraiNNerError | OSError | MemoryError) or is_out_of_memory(error)
