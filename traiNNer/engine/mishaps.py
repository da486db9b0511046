"""What goes wrong with a measurement is said, and ends nothing."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from traiNNer.utils.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)
# Of an error's words: enough to know it by.
_MOST_WORDS = 300


class Mishaps:
    """Measurements that failed: each kind is said once, and all are counted.

    Attributes:
        counts: by what was to be measured, since `restart`.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._said: set[tuple[str, str]] = set()

    def restart(self) -> None:
        """Count anew; what was said is not said again."""
        self.counts = Counter()

    @contextmanager
    def forgiving(
        self, what: str, where: str = "", consequence: str = "", *, memory: bool = True
    ) -> Iterator[None]:
        """Go on after the context whatever fails inside. Ctrl-C is no failure.

        Args:
            what: could not be done, for example "psnr".
            where: of which picture or set.
            consequence: what is missing now.
            memory: whether to forgive a lack of memory, too; False where there is more elsewhere.
        """
        try:
            yield
        # Whatever a metric, a decoder or a disk can raise: the training is worth more.
        except Exception as error:
            is_full = is_out_of_memory(error)
            if is_full and not memory:
                raise
            self.counts[what] += 1
            kind = "memory" if is_full else type(error).__name__
            if (what, kind) in self._said:
                return
            self._said.add((what, kind))
            log.warning(
                "%s%s: failed (%s)%s; the same of other pictures is not said again",
                what,
                f" of {where}" if where else "",
                _in_short(error),
                f", {consequence}" if consequence else "",
            )
            log.debug("%s failed", what, exc_info=error)


def _in_short(error: Exception) -> str:
    if is_out_of_memory(error):
        return "not enough memory"
    lines = str(error).strip().splitlines()
    words = lines[0][:_MOST_WORDS] if lines else ""
    name = type(error).__name__
    return f"{name}: {words}" if words else name
