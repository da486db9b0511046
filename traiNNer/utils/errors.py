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
