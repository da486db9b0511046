"""What train.py and test.py share: errors as plain messages with honest exit codes, start-up steps
with their time.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from traiNNer.engine.interrupts import EXIT_INTERRUPTED
from traiNNer.utils.device import Runtime, choose_device, configure_backends
from traiNNer.utils.errors import OptionsError, TraiNNerError
from traiNNer.utils.out_of_memory import is_out_of_memory

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
    try:
        code = action()
        if sys.stdout is not None:  # it is when the shell closed it
            sys.stdout.flush()
        return code
    except TraiNNerError as error:
        sys.stderr.write(f"\n{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; what was saved before stays as it is\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader, such as `| head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # else Python complains when it ends
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"\n{where}{error.strerror or error}\n")
        return 2 if error.errno in _WRONG_NAMES else 1
    except MemoryError as error:
        sys.stderr.write(
            f"\nnot enough main memory: {error}; lower lq_size, batch_size_per_gpu or "
            "num_worker_per_gpu\n"
        )
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: a traceback with a word of what it is
        explained = _explain(error)
        if explained is not None:
            sys.stderr.write(f"\n{explained}\n")
            return 1
        traceback.print_exc()
        sys.stderr.write(
            "\nThis is a bug in traiNNer, not in your options: please report it with the lines "
            "above.\n"
        )
        return 1


def _explain(error: Exception) -> str | None:
    """A plain message for what torch raises when a machine is too small; None for anything else."""
    from traiNNer.data import explain_worker_death

    dead_worker = explain_worker_death(error)
    if dead_worker is not None:
        return str(dead_worker)
    if is_out_of_memory(error):
        said = str(error).strip().splitlines()[0]
        return (
            f"out of memory outside a training step ({said}); for validation and test.py set "
            "val.tile_size, else lower lq_size or batch_size_per_gpu, or choose a smaller network. "
            "The last checkpoint is good."
        )
    return None


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long a step of the start-up took."""
    start = time.perf_counter()
    yield
    log.info("%s (%.1f s)", what, time.perf_counter() - start)


def make_runtime(
    *,
    num_gpu: object,
    use_amp: bool,
    amp_bf16: bool,
    use_channels_last: bool,
    use_compile: bool,
    fast_matmul: bool,
    deterministic: bool = False,
) -> Runtime:
    """Device and precision as the options ask for.

    Raises:
        OptionsError: if a GPU is asked for and there is none.
    """
    import torch

    try:
        device = choose_device("auto" if num_gpu == "auto" else int(str(num_gpu)))
    except ValueError as error:
        raise OptionsError(f"num_gpu = {num_gpu}: {error}; set num_gpu: auto or 0") from error
    configure_backends(deterministic=deterministic, fast_matmul=fast_matmul)
    amp_dtype = (torch.bfloat16 if amp_bf16 else torch.float16) if use_amp else None
    return Runtime(device, amp_dtype, use_channels_last, use_compile)
