"""A thread of this process that reads: where pixels need no decoding, handing batches over between
processes would cost more than reading them.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from traiNNer.data.loader import BatchReader
from traiNNer.data.sample import Batch, SampleRequest
from traiNNer.data.waiting import LongWait
from traiNNer.data.workers import Failure, Parcel
from traiNNer.utils.errors import DataError

log = logging.getLogger(__name__)
# Samples that are read to see whether a thread will do.
TRIED = 8
# Seconds for a sample, up to which a thread reads it. A crop of 64 px at x2 takes 0.2 ms out of a
# memory map; what is decoded, resized or degraded takes 3 ms and more, keeps Python from the
# training, and gains by a second core.
FAST_S = 1e-3

_Requests = Sequence[SampleRequest]
_Answer = Batch | Parcel | Failure | None | BaseException


class ReadingThread:
    """Reads lists of requests ahead, in order, as `Workers` does by processes.

    Args:
        reader: the dataset.
        requests: lists of them, asked for in the thread that receives.
        slots: lists that are under way.
        pin_memory: hand over batches in page-locked memory.

    Attributes:
        pids: none.
    """

    pids: tuple[int, ...] = ()

    def __init__(
        self, reader: BatchReader, requests: Iterable[_Requests], slots: int, *, pin_memory: bool
    ) -> None:
        self._reader = reader
        self._requests = requests
        self._slots = slots
        self._pins = pin_memory
        self._lists: Iterator[_Requests] | None = None
        self._asked: queue.SimpleQueue[_Requests | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._watch: LongWait | None = None

    @property
    def started(self) -> bool:
        """Whether lists of requests are being read."""
        return self._lists is not None

    def start(self) -> None:
        """Begin to read."""
        self._lists = iter(self._requests)
        # Of its own, so that what an ended thread still reads is nobody's.
        self._asked = queue.SimpleQueue()
        self._answers = queue.SimpleQueue()
        arguments = (self._reader, self._asked, self._answers, self._pins)
        # A daemon, because a disk that does not answer must not keep the program from ending.
        threading.Thread(target=_read, args=arguments, name="reader", daemon=True).start()
        self._watch = LongWait(())
        for _ in range(self._slots):
            self._ask()

    def receive(self) -> Batch | None:
        """The batch of the next list of requests, None of an empty one.

        Raises:
            DataError: if an image could not be read.
        """
        assert self._watch is not None
        with self._watch.waiting():
            answer = self._answers.get()
        if isinstance(answer, Failure):
            raise DataError(answer.message)
        if isinstance(answer, BaseException):
            raise answer
        assert not isinstance(answer, Parcel), "nothing is packed up in this process"
        self._ask()
        return answer

    def end(self) -> None:
        """End the thread, once it has read what it is at."""
        self._asked.put(None)
        self._lists = None
        if self._watch is not None:
            self._watch.end()
        self._watch = None

    def _ask(self) -> None:
        assert self._lists is not None
        self._asked.put(next(self._lists))


class ThreadChoice:
    """Whether a thread is to read in place of processes.

    Args:
        reader: the dataset.
        is_decoded: whether pixels come without being decoded; None asks for processes.
    """

    def __init__(self, reader: BatchReader, is_decoded: Callable[[], bool] | None) -> None:
        self._reader = reader
        self._is_decoded = is_decoded
        self._epoch = -1

    def is_due(self, epoch: int) -> bool:
        """Whether pixels come without being decoded since this epoch; asked once in an epoch, and
        not again after it was so.
        """
        if self._is_decoded is None or epoch == self._epoch:
            return False
        self._epoch = epoch
        if not self._is_decoded():
            return False
        self._is_decoded = None
        return True

    def is_better(self, requests: Iterable[SampleRequest]) -> bool:
        """Whether the samples are read fast enough for a thread."""
        tried = list(requests)
        # Twice: a process compares what is kept with its checksum at the first time.
        self._reader.__getitems__(tried)
        began = time.perf_counter()
        self._reader.__getitems__(tried)
        seconds = (time.perf_counter() - began) / len(tried)
        if seconds > FAST_S:
            log.debug("a sample takes %.1f ms to read, so processes go on reading", 1000 * seconds)
            return False
        log.info(
            "all pictures are decoded and kept: from now on a thread reads (%.2f ms a sample)",
            1000 * seconds,
        )
        return True


def _read(
    reader: BatchReader,
    asked: queue.SimpleQueue[_Requests | None],
    answers: queue.SimpleQueue[_Answer],
    pins: bool,
) -> None:
    while (requests := asked.get()) is not None:
        try:
            answer = reader.__getitems__(requests)
            if pins and isinstance(answer, Batch):
                answer = answer.pin_memory()
        # Whatever it is: it is for the thread that waits.
        except BaseException as error:  # noqa: BLE001
            answer = error
        answers.put(answer)
