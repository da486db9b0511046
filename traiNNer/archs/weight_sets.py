"""The sets of weights that a checkpoint of another trainer holds, and which of them is meant.

Trainers put weights into containers (`params_ema`, `state_dict`, ...) and wrappers put prefixes
before their names (`module.`, `_orig_mod.`, `net_g.`, ...), in any order and beside anything else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

# Containers of weights, best first among those that hold no averaged ones.
_CONTAINERS = (
    "params",
    "state_dict",
    "model_state_dict",
    "model",
    "net_g",
    "netg",
    "generator",
    "g",
    "student",
    "net",
    "network",
    "weights",
)
# What wrappers put before every name.
_WRAPPERS = ("module", "_orig_mod", "netG", "net_g")
# What a network is called by whoever holds it beside others. Not "network": so our stacks call the
# network inside, which is another one without them.
_ROLES = frozenset((*_CONTAINERS, "module", "_orig_mod", "online_model", "teacher", "sr_model")) - {
    "network"
}
# Words in the names of averaged weights. They are those that are used: validated and given away.
_AVERAGED = re.compile(
    r"(?<![A-Za-z])(ema|EMA|avg|averaged?|swa|SWA|smooth(ed)?|shadow|polyak)(?![a-z])"
    r"|Ema(?![a-z])|Averaged?(?![a-z])"
)
# Words in the names of networks beside the one that makes images, and of what is no network.
_OTHERS = re.compile(
    r"[Dd]iscriminator|[Cc]ritic|(?<![A-Za-z])(d|D|dis|disc|net_?[dD]|optim\w*|loss\w*|criterion\w*"
    r"|cri|percep\w*|vgg\w*|lpips|metrics?)(?![a-z])"
)
# Numbers that wrappers save beside the weights.
_COUNTS = frozenset(
    [
        "n_averaged",
        "step_counter",
        "step",
        "global_step",
        "iter",
        "epoch",
        "num_updates",
        "decay",
        "initted",
    ]
)
# Containers in containers, and wrappers around wrappers, that are looked through.
_DEPTH = 4
# Sets that are tried where nobody says what network it is. To try one takes some milliseconds.
_TRIED = 24
# Neighbours that a message names.
_NAMED = 3


@dataclass(frozen=True)
class WeightSet:
    """Weights that belong together: those of one container whose names begin alike.

    Attributes:
        container: keys that lead to them, outermost first.
        prefix: what was taken off their names.
        weights: by the names that are left.
    """

    container: tuple[str, ...]
    prefix: str
    weights: dict[str, Tensor]

    @property
    def name(self) -> str:
        """What it is called in messages; empty for a file of plain weights."""
        container = "/".join(self.container)
        if not self.prefix:
            return f"'{container}'" if container else ""
        return f"'{container}' ({self.prefix}*)" if container else f"'{self.prefix}*'"

    @property
    def averaged(self) -> bool:
        """Whether the names say that these are the moving average of others."""
        return bool(_AVERAGED.search(".".join((*self.container, self.prefix))))

    @property
    def other(self) -> bool:
        """Whether the names say that these are of a network that makes no images."""
        return bool(_OTHERS.search(".".join((*self.container, self.prefix))))


@dataclass(frozen=True)
class Choice:
    """The set that is meant, and the others that could have been."""

    taken: WeightSet
    beside: tuple[WeightSet, ...] = ()

    def summary(self) -> str:
        """Which one it is and what lies beside it, in a clause; empty where there is no choice."""
        if not self.taken.name and not self.beside:
            return ""
        kind = "averaged weights" if self.taken.averaged else "weights"
        text = f"the {kind} {self.taken.name or 'without prefix'} are taken"
        if not self.beside:
            return text
        names = [other.name or "plain weights" for other in self.beside[:_NAMED]]
        more = len(self.beside) - len(names)
        return f"{text}; beside them lie {', '.join(names)}{f' and {more} more' if more else ''}"


def choose_for(content: object, expected: Mapping[str, Tensor]) -> Choice | None:
    """The set whose names and shapes are the network's; None if the file holds no weights.

    Every prefix under which a name of the network is found is tried. Most matches win, averaged
    weights among equals, then the longest prefix.

    Args:
        content: what was read from the file.
        expected: the network's weights.
    """
    found: list[tuple[int, WeightSet]] = []
    names = {name: name for name in expected}
    # Some averages are kept as buffers, whose names cannot have dots.
    names |= {name.replace(".", ""): name for name in expected}
    for container, weights in _containers(content):
        for prefix in _prefixes_of(weights, names):
            candidate = _under(container, prefix, weights, names)
            found.append((_matches(candidate.weights, expected), candidate))
    if not found:
        guesses = guess(content)
        return Choice(guesses[0], tuple(guesses[1:])) if guesses else None

    def rank(scored: tuple[int, WeightSet]) -> tuple[int, bool, bool, int, int]:
        matches, candidate = scored
        return (
            matches,
            not candidate.other,
            candidate.averaged,
            -_place(candidate),
            len(candidate.prefix),
        )

    found.sort(key=rank, reverse=True)
    best, taken = found[0]
    # Half of the names: what shares a name or two with the network is no other set of its weights.
    beside = [other for matches, other in found[1:] if 2 * matches >= max(best, 1)]
    return Choice(taken, tuple(beside))


def choose_by(content: object, accepts: Callable[[dict[str, Tensor]], bool]) -> Choice | None:
    """The first of the likely sets that `accepts`, None if it takes none of them."""
    guesses = guess(content)
    for number, candidate in enumerate(guesses[:_TRIED]):
        if accepts(candidate.weights):
            rest = guesses[:number] + guesses[number + 1 :]
            size = len(candidate.weights)
            # As many weights, so perhaps of the same network.
            alike = [other for other in rest if len(other.weights) == size]
            return Choice(candidate, tuple(alike))
    return None


def guess(content: object) -> list[WeightSet]:
    """The sets that may be meant, the likeliest first: averaged ones, then by the containers."""
    sets: list[WeightSet] = []
    for container, weights in _containers(content):
        prefix = _wrappers_of(weights)
        sets.append(_under(container, prefix, weights))
        for inner in _roots(weights):
            if inner != prefix:
                sets.append(_under(container, inner, weights))

    def rank(candidate: WeightSet) -> tuple[bool, int, int]:
        return (not candidate.averaged, _place(candidate), len(candidate.prefix))

    return sorted((found for found in sets if found.weights and not found.other), key=rank)


def _containers(
    content: object, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every mapping in `content` that holds tensors, with the keys that lead to it."""
    if not isinstance(content, Mapping) or len(path) > _DEPTH:
        return
    weights = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if weights:
        yield path, weights
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _containers(value, (*path, str(key)))


def _prefixes_of(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> list[str]:
    """All prefixes under which names of the network are found."""
    counts: Counter[str] = Counter()
    for key in weights:
        for cut in (0, *(match.end() for match in re.finditer(r"\.", key))):
            if key[cut:] in names:
                counts[key[:cut]] += 1
    return list(counts)


def _matches(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> int:
    """How many weights of the network are there, of the right shape."""
    return sum(
        1
        for key, weight in expected.items()
        if key in weights and weights[key].shape == weight.shape
    )


def _under(
    container: tuple[str, ...],
    prefix: str,
    weights: Mapping[str, Tensor],
    names: Mapping[str, str] | None = None,
) -> WeightSet:
    """What begins with the prefix, but for what is no part of the network by its name.

    Args:
        container: where the weights are.
        prefix: taken off.
        weights: of the container.
        names: of the network's weights, by the names that they may have in the file.
    """
    known = names or {}
    inside: dict[str, Tensor] = {}
    for key, weight in weights.items():
        if not key.startswith(prefix):
            continue
        name = key[len(prefix) :]
        root = name.partition(".")[0]
        is_other = name in _COUNTS or _OTHERS.search(root) or (names and _AVERAGED.search(root))
        if name in known or not is_other:
            inside[known.get(name, name)] = weight
    return WeightSet(container, prefix, inside)


def _wrappers_of(weights: Mapping[str, Tensor]) -> str:
    """What known wrappers have put before all names."""
    prefix = ""
    while True:
        first = next(iter(weights))[len(prefix) :].partition(".")[0]
        longer = f"{prefix}{first}."
        if first not in _WRAPPERS or not all(key.startswith(longer) for key in weights):
            return prefix
        prefix = longer


def _roots(weights: Mapping[str, Tensor]) -> list[str]:
    """Beginnings of names that say what a network is for. A part of a network has another name:
    taken alone it would be another network.
    """
    prefixes: dict[str, None] = {}
    for key in weights:
        parts = key.split(".")[:-1]
        for depth, part in enumerate(parts[:_DEPTH], 1):
            if part.lower() not in _ROLES and not _AVERAGED.search(part):
                break
            prefixes[".".join(parts[:depth]) + "."] = None
    return list(prefixes)


def _place(candidate: WeightSet) -> int:
    """The place of a set among the known containers; plain weights are first, unknown ones last."""
    words = [word.lower() for word in (*candidate.container, *candidate.prefix.split(".")) if word]
    if not words:
        return -1
    known = [_CONTAINERS.index(word) for word in words if word in _CONTAINERS]
    return min(known, default=len(_CONTAINERS))
