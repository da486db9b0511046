"""What train.py and test.py share: errors as plain messages with honest exit codes, start-up steps
with their time.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from traiNNer.engine.interrupts import EXIT_INTERRUPTED
from traiNNer.options.extensions import origin
from traiNNer.utils.device import (
    Runtime,
    autocast_dtype,
    choose_device,
    configure_backends,
    is_emulated,
)
from traiNNer.utils.errors import OptionsError, ToldElsewhereError, TraiNNerError
from traiNNer.utils.names import visible
from traiNNer.utils.out_of_memory import first_line, is_out_of_memory
from traiNNer.utils.team import Team

if TYPE_CHECKING:
    from traiNNer.options.schema import TestOptions, TrainingOptions

log = logging.getLogger(__name__)
STDOUT = 1
_WRONG_NAMES = (
    errno.ENAMETOOLONG,
    errno.ELOOP,
)  # of files: mistakes of the user, not trouble of the machine


def run_plainly(action: Callable[[], int]) -> int:
    """Run `action` and return the exit code: its own, 2 or 1 for errors of ours, 130 for Ctrl-C, 1
    for the rest.
    """
    escape_what_cannot_be_printed()
    try:
        code = action()
        if sys.stdout is not None:  # it is when the shell closed it
            sys.stdout.flush()
    except TraiNNerError as error:
        code = _tell_ours(error)
    except KeyboardInterrupt:
        code = _tell("interrupted; what was saved before stays as it is", EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader, such as `| head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # else Python complains when it ends
        code = 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        is_users = error.errno in _WRONG_NAMES
        message = _with_notes(f"{where}{error.strerror or error}", error)
        code = _tell(message, 2 if is_users else 1)
    except MemoryError as error:
        message = (
            f"not enough main memory: {first_line(error)}; lower lq_size, batch_size_per_gpu or "
            "num_worker_per_gpu"
        )
        code = _tell(_with_notes(message, error), 1)
    # The last line of defence: a traceback, with a word of what it is.
    except Exception as error:  # noqa: BLE001
        explanation = _explain(error)
        if explanation is None:
            traceback.print_exc()
            explanation = (
                "This is a bug in traiNNer, not in your options: please report it with the lines "
                "above."
            )
            place = origin(error)
            if place is not None:
                explanation = f"The error comes by way of an extension: {place}."
        code = _tell(_with_notes(explanation, error), 1)
    return code


def _tell_ours(error: TraiNNerError) -> int:
    # Of what another process tells this one knows only what it has saved.
    message = "" if isinstance(error, ToldElsewhereError) else str(error)
    text = _with_notes(message, error).strip("\n")
    return _tell(text, error.exit_code) if text else error.exit_code


def _with_notes(message: str, error: BaseException) -> str:
    """`message`, and what was said of the error on its way here: what was saved."""
    notes = filter(None, getattr(error, "__notes__", []))
    return "\n".join((message, *notes))


def escape_what_cannot_be_printed() -> None:
    """Let standard output and errors show characters that they have no code for as escapes, instead
    of ending the program: names of files may hold any.
    """
    for stream in (sys.stdout, sys.stderr):
        # Other streams are those of a test or of a notebook, and their own business.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _tell(message: str, code: int) -> int:
    shown = visible(message, keep="\n\t")
    sys.stderr.write(f"\n{shown}\n")
    return code


def _explain(error: Exception) -> str | None:
    """A plain message for what torch raises when a machine is too small; None for anything else."""
    from traiNNer.data import explain_worker_death

    dead_worker = explain_worker_death(error)
    if dead_worker is not None:
        return str(dead_worker)
    if is_out_of_memory(error):
        complaint = first_line(error)
        return (
            f"out of memory outside a training step ({complaint}); for test.py set val.tile_size, "
            "else lower lq_size or batch_size_per_gpu, or choose a smaller network."
        )
    return None


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long a step of the start-up took."""
    start = time.perf_counter()
    yield
    log.info("%s (%.1f s)", what, time.perf_counter() - start)


def make_runtime(options: TrainingOptions | TestOptions, team: Team | None = None) -> Runtime:
    """Device and precision as the options ask for.

    Args:
        options: of a training or a test.
        team: the processes that train together; None for this one alone.

    Raises:
        OptionsError: if a GPU is asked for and there is none.
    """
    try:
        team = team or Team()
        device = choose_device(options.num_gpu, team.local_rank)
    except ValueError as error:
        raise OptionsError(
            f"num_gpu = {options.num_gpu}: {error}; set num_gpu: auto or 0"
        ) from error
    # Only a training has to be the same twice.
    deterministic = getattr(options, "deterministic", False)
    configure_backends(deterministic=deterministic, fast_matmul=options.fast_matmul)
    amp_dtype = autocast_dtype(use_amp=options.use_amp, amp_bf16=options.amp_bf16)
    if amp_dtype is not None and is_emulated(device, amp_dtype):
        log.warning(
            "use_amp: not on this CPU, which has no arithmetic in %s and would be about ten times "
            "slower with it; computes in fp32",
            Runtime(device, amp_dtype).precision,
        )
        amp_dtype = None
    # auto is decided once the network is there.
    channels_last = options.use_channels_last is True
    return Runtime(device, amp_dtype, channels_last, options.use_compile, team)
