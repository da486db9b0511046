"""One generic registry, and the registries of the project.

A registry is filled by importing one package, which it does itself at the first look-up. So the
options floor can ask "is there a loss of this name, and what does it take?" without importing a
floor above its own, and a program that never asks for a network never pays for importing them.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")
E = TypeVar("E")


def normalize(name: str) -> str:
    """The spelling that names are compared in: lower case, without `_`, `-` and blanks."""
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


class UnknownNameError(LookupError):
    """No entry of that name. `suggestions` are the nearest names, best first."""

    def __init__(self, kind: str, name: str, suggestions: list[str], names: list[str]) -> None:
        self.kind = kind
        self.name = name
        self.suggestions = suggestions
        self.names = names
        hint = (
            f"did you mean {' or '.join(suggestions)}?"
            if suggestions
            else f"there are: {', '.join(names)}"
        )
        super().__init__(f"unknown {kind} '{name}'; {hint}")


class Registry(Generic[T]):
    """Names to entries, insensitive to case, `_` and `-`.

    Args:
        kind: what an entry is called in messages, for example "loss".
        package: the package whose import registers the entries; None when nothing needs importing.
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}  # by canonical name, in order of registration
        self._canonical: dict[str, str] = {}  # normalized name or alias -> canonical name

    def add(self, name: str, entry: T, aliases: tuple[str, ...] = ()) -> T:
        """Register `entry`.

        Raises:
            ValueError: if the name or an alias is taken.
        """
        for spelling in dict.fromkeys(normalize(n) for n in (name, *aliases)):
            if spelling in self._canonical:
                raise ValueError(f"{self.kind} '{spelling}' is registered twice")
            self._canonical[spelling] = name
        self._entries[name] = entry
        return entry

    def register(self, name: str, aliases: tuple[str, ...] = ()) -> Callable[[E], E]:
        """Decorator form of `add`."""

        def decorate(entry: E) -> E:
            self.add(name, cast(T, entry), aliases)
            return entry

        return decorate

    def _fill(self) -> None:
        if self._package is not None:
            package = self._package
            self._package = None
            importlib.import_module(package)

    def canonical(self, name: str) -> str:
        """The name under which an entry was registered, for any accepted spelling.

        Raises:
            UnknownNameError: naming the nearest entries.
        """
        self._fill()
        spelling = normalize(name)
        if spelling not in self._canonical:
            near = [n for n in self._canonical if len(spelling) > 2 and n.startswith(spelling)][:3]
            near += difflib.get_close_matches(spelling, list(self._canonical), n=3, cutoff=0.6)
            raise UnknownNameError(
                self.kind,
                name,
                list(dict.fromkeys(self._canonical[n] for n in near)),
                list(self._entries),
            )
        return self._canonical[spelling]

    def __getitem__(self, name: str) -> T:
        return self._entries[self.canonical(name)]

    def __contains__(self, name: str) -> bool:
        self._fill()
        return normalize(name) in self._canonical

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return iter(self._entries)

    def items(self) -> list[tuple[str, T]]:
        """(canonical name, entry), in order of registration."""
        self._fill()
        return list(self._entries.items())


# Entries of ARCHS are `traiNNer.archs.spec.ArchSpec`; of the others, classes or functions whose
# keyword arguments are the options of the section that names them.
ARCHS: Registry[Any] = Registry("network", "traiNNer.archs")
DATASETS: Registry[Any] = Registry("dataset", "traiNNer.data")
LOSSES: Registry[Any] = Registry("loss", "traiNNer.losses")
METRICS: Registry[Any] = Registry("metric", "traiNNer.metrics")
OPTIMIZERS: Registry[Any] = Registry("optimizer", "traiNNer.optim")
SCHEDULERS: Registry[Any] = Registry("scheduler", "traiNNer.optim")
AUTOMATIONS: Registry[Any] = Registry("automation", "traiNNer.automations")
