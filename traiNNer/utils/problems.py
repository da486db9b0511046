"""Problems of many files, collected and raised as one error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from traiNNer.utils.errors import DataError
from traiNNer.utils.names import visible

# Examples of a kind in the message: enough to see what they share, few enough for one screen.
_EXAMPLES = 10


@dataclass
class Problems:
    """Collects what is wrong, by kind, for one error at the end. `what` cannot be used: the images,
    the scenes.
    """

    kinds: dict[str, list[str]] = field(default_factory=dict)
    what: str = "images"

    def add(self, kind: str, example: str) -> None:
        """Note one more `example` (a file or a folder) of a `kind` (a sentence about all of
        them).
        """
        # On one line and readable, whatever a file is called.
        self.kinds.setdefault(visible(kind), []).append(visible(example))

    def move(self, kinds: Iterable[str], other: Problems) -> None:
        """Hand those of some kinds over to `other`."""
        for kind in kinds:
            for example in self.kinds.pop(kind, []):
                other.add(kind, example)

    @property
    def examples(self) -> list[str]:
        """All of them, of any kind."""
        return [example for examples in self.kinds.values() for example in examples]

    def raise_if_any(self) -> None:
        """Raise what was collected, if anything was.

        Raises:
            DataError: as `error` makes it.
        """
        if self.kinds:
            raise self.error()

    def error(self) -> DataError:
        """An error that names up to ten examples of each kind, and how many there are."""
        lines = [f"the {self.what} cannot be used:"]
        for kind, examples in self.kinds.items():
            lines.append(f"- {kind}" + (f" ({len(examples)} times):" if len(examples) > 1 else ":"))
            lines += [f"    {example}" for example in examples[:_EXAMPLES]]
            if len(examples) > _EXAMPLES:
                lines.append(f"    ... and {len(examples) - _EXAMPLES} more")
        return DataError("\n".join(lines))
