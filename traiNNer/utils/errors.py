"""Every error that a user can cause or must act on. The message is the whole story: where, what,
what to do.
"""

from __future__ import annotations


class TraiNNerError(Exception):
    """Base of the errors that are shown as a plain message, without a traceback.

    `exit_code` is what the command line returns: 2 for mistakes in options or data, 1 for trouble
    of the machine.
    """

    # As argparse exits for wrong arguments.
    exit_code = 2


class OptionsError(TraiNNerError):
    """The options are wrong. The message lists every problem with file, line, key and what is
    allowed.
    """


class DataError(TraiNNerError):
    """A dataset or an image cannot be used. The message names the files."""


class CheckpointError(TraiNNerError):
    """A checkpoint cannot be read or does not fit. The message names the file and the
    difference.
    """


class TrainingError(TraiNNerError):
    """Training cannot go on (for example the loss stays non-finite)."""

    exit_code = 1


class DiskError(TraiNNerError):
    """A file could not be written. What was there before is untouched."""

    exit_code = 1


class TeamError(TraiNNerError):
    """The processes of one training do not get on together.

    Args:
        message: what is wrong, and what to do.
        exit_code: 2 for a mistake in how they were started.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ToldElsewhereError(TraiNNerError):
    """Another process of this training tells of the error that ends them all.

    Args:
        rank: of that process.
        exit_code: with which all of them end.
    """

    def __init__(self, rank: int, exit_code: int) -> None:
        super().__init__(f"process {rank} ends the training")
        self.exit_code = exit_code


class StopRequested(KeyboardInterrupt):
    """Somebody wants the run to end, and the step that waited or worked is given up.

    Args:
        is_agreed: whether all processes of the training know of it.
    """

    def __init__(self, *, is_agreed: bool = False) -> None:
        super().__init__()
        self.is_agreed = is_agreed
