"""One generic registry, and the registries of the project.

A registry is filled by importing one package, which it does itself at the first look-up. So the
options floor can ask "is there a loss of this name, and what does it take?" without importing a
floor above its own, and a program that never asks for a network never pays for importing them.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    # Only a type checker sees these, so that an entry has a type on every floor while no floor is
    # imported by the one below it.
    import torch
    from torch import Tensor, nn

    from traiNNer.archs.spec import ArchSpec as ArchSpec
    from traiNNer.automations.base import Automation
    from traiNNer.data.order import Order
    from traiNNer.data.pixel_source import PixelSource
    from traiNNer.data.protocols import EvalSet
    from traiNNer.engine.part import Part
    from traiNNer.metrics.protocol import Metric
    from traiNNer.models.base_model import BaseModel
    from traiNNer.ops.degradations.base import Degradation
    from traiNNer.optim.schedulers import SchedulerSpec

T = TypeVar("T")
E = TypeVar("E")

# A beginning of one or two letters is that of too many names to be a hint.
_SHORTEST_BEGINNING = 3
# difflib's own default: below it the suggestions have little to do with what was typed.
_LEAST_SIMILARITY = 0.6
_SUGGESTIONS = 3

_BETWEEN_DIGITS = re.compile(r"(?<=\d)[_\- ]+(?=\d)")


def normalize(name: str) -> str:
    """The spelling that names are compared in: lower case, without `_`, `-` and blanks, but for
    one `_` between two digits: 1_6 is not 16.
    """
    kept = _BETWEEN_DIGITS.sub("\0", name.lower())
    return re.sub(r"[_\- ]", "", kept).replace("\0", "_")


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
        """Register `entry` under all of its names, or under none of them.

        Raises:
            ValueError: if the name or an alias belongs to another entry.
        """
        # First what the package itself registers: an extension may come before any look-up, and who
        # takes a name that is ours is told, not we.
        self._fill()
        # An alias may differ from the name in what `normalize` removes only.
        spellings = dict.fromkeys(normalize(n) for n in (name, *aliases))
        for spelling in spellings:
            if spelling in self._canonical:
                raise ValueError(
                    f"{self.kind} '{spelling}' is registered twice: for "
                    f"'{self._canonical[spelling]}' and now for '{name}'; choose another name"
                )
        self._canonical.update(dict.fromkeys(spellings, name))
        self._entries[name] = entry
        return entry

    def register(self, name: str, aliases: tuple[str, ...] = ()) -> Callable[[E], E]:
        """Decorator form of `add`."""

        def decorate(entry: E) -> E:
            self.add(name, cast(T, entry), aliases)
            return entry

        return decorate

    def remove(self, name: str) -> None:
        """Take out an entry of this canonical name, for whoever needs one for a while only."""
        del self._entries[name]
        for spelling in [key for key, value in self._canonical.items() if value == name]:
            del self._canonical[spelling]

    def _fill(self) -> None:
        if self._package is None:
            return
        package = self._package
        # First, because the modules of the package may themselves look something up.
        self._package = None
        try:
            importlib.import_module(package)
        except BaseException:
            # The next look-up tells the same story, and not that the registry is empty.
            self._package = package
            raise

    def canonical(self, name: str) -> str:
        """The name under which an entry was registered, for any accepted spelling.

        Raises:
            UnknownNameError: naming the nearest entries.
        """
        self._fill()
        spelling = normalize(name)
        if spelling not in self._canonical:
            raise UnknownNameError(self.kind, name, self._nearest(spelling), list(self._entries))
        return self._canonical[spelling]

    def _nearest(self, spelling: str) -> list[str]:
        """Canonical names, best first: those that begin so, then those that are spelled alike."""
        near: list[str] = []
        if len(spelling) >= _SHORTEST_BEGINNING:
            beginning = [known for known in self._canonical if known.startswith(spelling)]
            near += beginning[:_SUGGESTIONS]
        near += difflib.get_close_matches(
            spelling, list(self._canonical), n=_SUGGESTIONS, cutoff=_LEAST_SIMILARITY
        )
        return list(dict.fromkeys(self._canonical[known] for known in near))

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


# An entry is a class, a function or a spec, whose keyword arguments are the options of the section
# that names it.
NetworkSpec: TypeAlias = "ArchSpec"
DiscriminatorFactory: TypeAlias = "Callable[..., nn.Module]"
DatasetFactory: TypeAlias = "Callable[..., EvalSet]"
LossFactory: TypeAlias = "Callable[..., nn.Module]"
MetricFactory: TypeAlias = "Callable[..., Metric]"
OptimizerFactory: TypeAlias = "Callable[..., torch.optim.Optimizer]"
SchedulerFactory: TypeAlias = "SchedulerSpec"
AutomationFactory: TypeAlias = "Callable[..., Automation]"
Recipe: TypeAlias = "type[BaseModel]"
PartFactory: TypeAlias = "Callable[..., Part]"
OrderFactory: TypeAlias = "Callable[..., Order]"
SourceFactory: TypeAlias = "Callable[..., PixelSource]"
DegradationFactory: TypeAlias = "Callable[..., Degradation]"
# From LQ, GT and output (B, 3, h, w) to (B,).
Difficulty: TypeAlias = "Callable[[Tensor, Tensor, Tensor], Tensor]"

ARCHS: Registry[NetworkSpec] = Registry("network", "traiNNer.archs")
DISCRIMINATORS: Registry[DiscriminatorFactory] = Registry(
    "discriminator", "traiNNer.archs.discriminators"
)
DATASETS: Registry[DatasetFactory] = Registry("dataset", "traiNNer.data")
LOSSES: Registry[LossFactory] = Registry("loss", "traiNNer.losses")
METRICS: Registry[MetricFactory] = Registry("metric", "traiNNer.metrics")
OPTIMIZERS: Registry[OptimizerFactory] = Registry("optimizer", "traiNNer.optim")
SCHEDULERS: Registry[SchedulerFactory] = Registry("scheduler", "traiNNer.optim")
AUTOMATIONS: Registry[AutomationFactory] = Registry("automation", "traiNNer.automations")
RECIPES: Registry[Recipe] = Registry("recipe", "traiNNer.models")
ORDERS: Registry[OrderFactory] = Registry("order", "traiNNer.data")
SOURCES: Registry[SourceFactory] = Registry("source of pixels", "traiNNer.data")
DEGRADATIONS: Registry[DegradationFactory] = Registry("degradation", "traiNNer.ops.degradations")
DIFFICULTIES: Registry[Difficulty] = Registry("difficulty", "traiNNer.losses")
# Parts are a program's or a user's own: those of every run stand in the session.
PARTS: Registry[PartFactory] = Registry("part")
