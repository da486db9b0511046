"""The processes that read: how they begin and end, how batches come from them, and what is said
when they fail.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

import cv2
from torch.utils.data import DataLoader

from traiNNer.data.sample import Batch
from traiNNer.data.waiting import LongWait
from traiNNer.utils.errors import DataError
from traiNNer.utils.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)
# Seconds in which a worker is to end when it is asked to. One that is frozen is killed then.
END_S = 5.0
# Bytes of shared memory from which on batches may stay there until they are used.
PLENTY = 2**30
# Seconds after which a worker whose main process is gone notices it.
_ORPHAN_S = 1.0


class WorkerError(DataError):
    """The worker processes cannot go on, mostly because the machine ran out of memory."""

    exit_code = 1


def explain_worker_death(error: BaseException) -> WorkerError | None:
    """A plain error if `error` is torch's for a worker process that has ended, else None."""
    message = str(error)
    if not isinstance(error, RuntimeError) or "DataLoader worker" not in message:
        return None
    return WorkerError(
        f"{message.strip().splitlines()[0]}\nA process that reads images has ended. Mostly the "
        "machine ran out of memory (see `dmesg`) or of shared memory (in a container: --shm-size): "
        "lower num_worker_per_gpu."
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """An error on its way from a worker. As an exception it would arrive with the worker's
    traceback as its message. `of_machine`: not a fault of the data.
    """

    message: str
    of_machine: bool = False


@dataclass(frozen=True, slots=True)
class Parcel:
    """A batch on its way from a worker: its tensors are in shared memory already, and this says
    where.

    multiprocessing would pack the batch in a thread, which can do no more with an error than print
    it: the batch would be lost, and waited for for ever.
    """

    content: bytes

    @classmethod
    def of(cls, batch: Batch) -> Parcel:
        """Move the batch's tensors into shared memory.

        Raises:
            OSError: if there is no room, or too many files are open.
            RuntimeError: as torch says the same.
        """
        return cls(bytes(ForkingPickler.dumps(batch)))

    def open(self) -> Batch:
        """The batch, in this process.

        Raises:
            OSError: if too many files are open, or the worker has ended.
            RuntimeError: as torch says the same.
        """
        return pickle.loads(self.content)  # noqa: S301 (of a process of ours)

    def pin_memory(self) -> Batch | Failure:
        """The batch in page-locked memory. The DataLoader calls this, in a thread."""
        try:
            return self.open().pin_memory()
        except (OSError, EOFError, RuntimeError) as error:
            return Failure(no_way(error), of_machine=True)


def no_way(error: BaseException) -> str:
    """Why batches do not come through, and what to do."""
    reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return (
        f"a batch cannot be handed over by the processes that read images: "
        f"{reason.splitlines()[0]}. Mostly there is too little shared memory (in a container: "
        "--shm-size=8g or --ipc=host) or too few files may be open (`ulimit -n`): allow for more, "
        "or lower num_worker_per_gpu (0 needs neither) or batch_size_per_gpu."
    )


def shared_memory() -> int | None:
    """Bytes of shared memory, in which batches are handed over; None where the system does not say.
    Containers mostly have 64 MiB.
    """
    try:
        room = os.statvfs("/dev/shm")  # noqa: S108 (only looked at)
    except (OSError, AttributeError):
        return None
    return room.f_frsize * room.f_blocks


class Workers:
    """The processes that read for an `open_loader`, which can be ended and started anew; or none,
    where it reads in this process.

    Attributes:
        pids: their process ids; empty without processes, and while they have not started.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.pids: tuple[int, ...] = ()
        self._loader = loader
        room = shared_memory()
        self._is_short = room is not None and room < PLENTY
        self._batches: Iterator[Batch | Parcel | Failure | None] | None = None
        self._processes: list[BaseProcess] = []
        self._watch: LongWait | None = None

    @property
    def started(self) -> bool:
        """Whether lists of requests are being read."""
        return self._batches is not None

    def start(self) -> None:
        """Begin to read what the loader's requests ask for.

        Raises:
            WorkerError: if the processes cannot be started.
        """
        others = multiprocessing.active_children()
        try:
            _require_room(self._loader)
            with _no_alarm(), _frozen():
                self._batches = iter(self._loader)
        except OSError as error:
            raise WorkerError(no_way(error)) from None
        self._processes = [
            process for process in multiprocessing.active_children() if process not in others
        ]
        self.pids = tuple(
            sorted(process.pid for process in self._processes if process.pid is not None)
        )
        # After the workers, which would inherit the thread as one that does not run.
        self._watch = LongWait(self.pids) if self.pids else None

    def receive(self) -> Batch | None:
        """The batch of the next list of requests, None of an empty one.

        Raises:
            DataError: if an image could not be read.
            WorkerError: if a worker process has ended, or there is no way to hand over a batch.
        """
        assert self._batches is not None
        try:
            if self._watch is None:
                received = next(self._batches)
            else:
                with self._watch.waiting():
                    received = next(self._batches)
                    if isinstance(received, Parcel):
                        received = received.open()
                        # What waits here for the rest of its batch is not to take what is short.
                        received = deepcopy(received) if self._is_short else received
        except (RuntimeError, OSError, EOFError) as error:
            explained = explain_worker_death(error)
            if explained is None:
                if not self.pids or is_out_of_memory(error):
                    raise
                explained = WorkerError(no_way(error))
        else:
            if isinstance(received, Failure):
                raise (WorkerError if received.of_machine else DataError)(received.message)
            assert not isinstance(received, Parcel)
            return received
        # Not `from error`: torch's traceback tells a user nothing.
        raise explained

    def end(self) -> None:
        """End the processes, also while a traceback still holds torch's iterator.

        They ignore SIGTERM, so the end of the program would otherwise wait for them for ever; those
        that are frozen (a file system that does not answer) are killed. A worker that crashes while
        it ends (a library's thread that outlives its interpreter, seen once in a spawned one) has
        nothing left to lose.
        """
        batches = self._batches
        processes = self._processes
        if self._watch is not None:
            self._watch.end()
        self._watch = None
        self._batches = None
        self._processes = []
        self.pids = ()
        # torch's own, which its destructor calls; what reads in this process has none.
        shut_down = getattr(batches, "_shutdown_workers", None)
        if shut_down is None:
            return
        # Beside it, because torch waits for each worker in turn, and for a thread that may wait for
        # a worker.
        killer = threading.Timer(END_S, _kill, (processes,))
        killer.daemon = True
        killer.start()
        try:
            shut_down()
        except RuntimeError as error:
            if explain_worker_death(error) is None:
                raise
            log.debug("while the workers ended: %s", error)
        finally:
            killer.cancel()
            _kill(processes)


@contextmanager
def _no_alarm() -> Iterator[None]:
    """torch raises an error for a worker that has ended in the handler of SIGCHLD, so wherever the
    main process happens to be: in the middle of a change of weights too. A wait for a batch looks
    at the workers every few seconds anyway.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


@contextmanager
def _frozen() -> Iterator[None]:
    """Processes that fork meanwhile never search for circles among what was there before. To look
    writes into every object, and so made copies of them: 90 MB in each process for 100,000 pairs.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _kill(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        if process.is_alive():
            process.kill()


def _require_room(loader: DataLoader[Any]) -> None:
    """See that there is shared memory for the queues of a loader. Where it ends in the middle of
    torch's own start, torch adds a traceback to the error.

    Raises:
        OSError: if there is none.
    """
    if not loader.num_workers:
        return
    context = loader.multiprocessing_context or multiprocessing
    queues = [context.Queue() for _ in range(loader.num_workers + 1)]
    context.Event()
    for queue in queues:
        queue.close()


def start_worker(_worker_id: int) -> None:
    """Prepare a process that reads."""
    # Ctrl-C, and what a service manager or a closing terminal sends, reach all processes; only the
    # main one acts on them.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    cv2.setNumThreads(0)
    if sys.platform != "win32":
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process soon after its parent, wherever it waits. torch's own watch ends the loop
    only, after which a full pipe is waited for.
    """
    while os.getppid() == parent:
        time.sleep(_ORPHAN_S)
    os._exit(1)
