"""Work that goes on beside the network, in threads: reading ahead and writing behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
# In frames. A few even out what varies from frame to frame (keyframes, a busy disk). More would be
# felt: a frame of 4K takes 25 MB as bytes, which is read, and 100 MB as floats, which is written.
_READ_AHEAD = 4
_WRITE_BEHIND = 2


def read_ahead(items: Generator[T]) -> Generator[T]:
    """The same items, made by a thread that is a few of them ahead."""
    end = object()
    # One thread: the items are those of one decoder, which takes one caller at a time.
    pool = ThreadPoolExecutor(1)
    try:
        waiting = deque(pool.submit(next, items, end) for _ in range(_READ_AHEAD))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            # Not the end, so it is one of the items.
            yield item  # pyright: ignore[reportReturnType]
    finally:
        # The thread first: a generator that is running cannot be closed.
        pool.shutdown(cancel_futures=True)
        items.close()


class Behind:
    """Makes calls one after the other in a thread, a few of them late. What one raises is raised by
    a later call, or at the end of the context."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __call__(self, function: Callable[..., None], *arguments: Any) -> None:
        while len(self._waiting) >= _WRITE_BEHIND:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(function, *arguments))

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # After an error the output is thrown away, so there is nothing to wait for.
            while kind is None and self._waiting:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)
