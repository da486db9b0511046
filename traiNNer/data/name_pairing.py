"""Which name of an LQ belongs to which name of GT: the same, one that a template makes of it, or
one with a mark such as `x2` that all of them have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from traiNNer.utils.errors import DataError
from traiNNer.utils.images import IMAGE_SUFFIXES
from traiNNer.utils.names import visible

# What data sets put into names to tell LQ from GT. The letters after a scale are DIV2K's mild, wild
# and difficult; LRBI, LRBD and SRF those of the benchmarks of 4 and 14 pictures.
_WORD = (
    r"(?:x\d{1,2}[mwd]?|\d{1,2}x|srf[ _-]?\d{1,2}|lr(?:bi|bd|dn)?|hr|lq|hq|gt|sr|low(?:res)?|"
    r"high(?:res)?|bicubic|bic|bi|bilinear|lanczos|nearest|area|box|mitchell|"
    r"down(?:scaled|sampled)?|small|half|quarter|degraded|clean|orig(?:inal)?|ref|input|target|"
    r"mild|wild|difficult|unknown|noisy|blur|jpe?g)"
)
_GAP = r"[ ._-]"
_SUFFIX = re.compile(rf"(?:{_GAP}*{_WORD})+", re.IGNORECASE)
# Before a name there has to be a gap: "high" begins "highway".
_PREFIX = re.compile(rf"(?:{_WORD}{_GAP}+)+", re.IGNORECASE)
# The longest mark that is looked for, "_lanczos_downsampled_x4" for example.
_LONGEST_MARK = 32
# Names that are searched for marks: the first ones may be strays.
_SAMPLES = 5
# Of the names, so that a few strays do not hide what the others have in common.
_NEARLY_ALL = 0.9


@dataclass(frozen=True)
class Mark:
    """What all names of a side have around what the two sides share.

    Attributes:
        folders: path components that are passed over, each with its depth.
        prefix: before the last component.
        suffix: behind it.
    """

    folders: tuple[tuple[int, str], ...] = ()
    prefix: str = ""
    suffix: str = ""

    def strip(self, name: str) -> str | None:
        """The name without the mark; None if it does not have it."""
        *parents, last = name.split("/")
        for depth, folder in reversed(self.folders):
            if len(parents) <= depth or parents[depth] != folder:
                return None
            del parents[depth]
        end = len(last) - len(self.suffix)
        if not last.startswith(self.prefix) or not last.endswith(self.suffix):
            return None
        # A mark around nothing is a name. The name of a root that is a scene itself is empty.
        if end <= len(self.prefix) and self != Mark(self.folders):
            return None
        return "/".join((*parents, last[len(self.prefix) : end]))

    def __str__(self) -> str:
        """As a template, for example `X2/{}x2`."""
        folders = "".join(f"{folder}/" for _, folder in self.folders)
        return f"{folders}{self.prefix}{{}}{self.suffix}"


PLAIN = Mark()


@dataclass(frozen=True)
class NamePairs:
    """What was found.

    Attributes:
        pairs: name of GT to name of LQ, in the order of GT.
        rule: how they were paired, for people; empty if the names are the same.
        hint: why there are hardly any pairs and what to do; empty where there is nothing to say.
    """

    pairs: dict[str, str]
    rule: str = ""
    hint: str = ""


def parse_template(template: str) -> Mark:
    """The mark of LQ's names that `filename_tmpl` means.

    Raises:
        DataError: if it is no name with one `{}` in it.
    """
    prefix, brackets, suffix = template.partition("{}")
    given = f"filename_tmpl: '{visible(template)}'"
    if not brackets or any(sign in prefix + suffix for sign in "{}"):
        raise DataError(
            f"{given}: expected one {{}} for the name of GT without its suffix, for example "
            "'{}x4'"
        )
    if any(sign in template for sign in "/\\\0"):
        raise DataError(f"{given}: names a file, not a folder; put the folder into dataroot_lq")
    if suffix.lower().endswith(IMAGE_SUFFIXES):
        raise DataError(f"{given}: is without the suffix of the file; leave it away")
    return Mark((), prefix, suffix)


def pair_names(gt: Sequence[str], lq: Sequence[str], template: str | None) -> NamePairs:
    """Pair the names of GT and LQ (paths below their roots, with `/`, without a file's suffix).

    Without a template equal names are pairs. Where that explains hardly any name, a mark that the
    names of a side have in common is looked for; it is used if it pairs nearly all of one side, and
    in one way only.

    Raises:
        DataError: for a template that is none.
    """
    if template is not None:
        return NamePairs(_match(gt, lq, PLAIN, parse_template(template)))
    same = set(lq)
    plain = {name: name for name in gt if name in same}
    fewest = min(len(gt), len(lq))
    if not fewest or len(plain) > (1 - _NEARLY_ALL) * fewest:
        return NamePairs(plain)
    for fold in (str, str.casefold):
        found = _guess(gt, lq, fold)
        if len(found) == 1:
            ((pairs, rule),) = found
            return NamePairs(pairs, rule)
        if found:
            ways = " or as ".join(
                f"{visible(next(iter(pairs)))} with {visible(next(iter(pairs.values())))}"
                for pairs, _ in found[:2]
            )
            hint = f"the names could be pairs in more than one way, as {ways}"
            return NamePairs(plain, hint=hint)
    return NamePairs(plain, hint="hardly any name of GT is the name of an LQ")


def _guess(
    gt: Sequence[str], lq: Sequence[str], fold: Callable[[str], str]
) -> list[tuple[dict[str, str], str]]:
    """The different pairings that explain nearly all of one side, each with its rule."""
    found: list[tuple[dict[str, str], str]] = []
    fewest = min(len(gt), len(lq))
    for mark_gt, mark_lq in product(_marks(gt), _marks(lq)):
        if fold is str and mark_gt == mark_lq == PLAIN:
            continue
        pairs = _match(gt, lq, mark_gt, mark_lq, fold)
        if len(pairs) < _NEARLY_ALL * fewest or any(pairs == known for known, _ in found):
            continue
        found.append((pairs, _rule(pairs, mark_gt, mark_lq)))
    if not found:
        return []
    # What explains more is the better explanation: only equals are a choice.
    most = max(len(pairs) for pairs, _ in found)
    return [(pairs, rule) for pairs, rule in found if len(pairs) == most]


def _rule(pairs: dict[str, str], mark_gt: Mark, mark_lq: Mark) -> str:
    name_gt, name_lq = next(iter(pairs.items()))
    example = f"GT {visible(name_gt)} with LQ {visible(name_lq)}"
    if mark_gt == mark_lq == PLAIN:
        return f"paired without regard to upper and lower case: {example}"
    if mark_gt == PLAIN and not mark_lq.folders:
        return f"paired as by filename_tmpl: '{visible(str(mark_lq))}': {example}"
    return f"paired by what is marked {{}} in GT {mark_gt} and LQ {mark_lq}: {example}"


def _match(
    gt: Sequence[str],
    lq: Sequence[str],
    mark_gt: Mark,
    mark_lq: Mark,
    fold: Callable[[str], str] = str,
) -> dict[str, str]:
    """The pairs of names that are the same without their marks; none where two of a side are."""
    by_core = _by_core(lq, mark_lq, fold)
    cores = _by_core(gt, mark_gt, fold)
    if by_core is None or cores is None:
        return {}
    return {name: by_core[core] for core, name in cores.items() if core in by_core}


def _by_core(names: Iterable[str], mark: Mark, fold: Callable[[str], str]) -> dict[str, str] | None:
    by_core: dict[str, str] = {}
    for name in names:
        core = mark.strip(name)
        if core is None:
            continue
        core = fold(core)
        if core in by_core:
            return None
        by_core[core] = name
    return by_core


def _marks(names: Sequence[str]) -> list[Mark]:
    """The marks that nearly all names have, the empty one included."""
    step = max(1, len(names) // _SAMPLES)
    candidates = dict.fromkeys(
        mark for name in names[::step][:_SAMPLES] for mark in _marks_of(name)
    )
    marks: list[Mark] = []
    for mark in candidates:
        count = sum(mark.strip(name) is not None for name in names)
        if count >= _NEARLY_ALL * len(names):
            marks.append(mark)
    return marks


def _marks_of(name: str) -> Iterator[Mark]:
    """Every mark that a name may have."""
    *parents, last = name.split("/")
    marked = tuple((depth, part) for depth, part in enumerate(parents) if _SUFFIX.fullmatch(part))
    prefixes = [last[:end] for end in range(1, min(len(last), _LONGEST_MARK))]
    suffixes = [last[start:] for start in range(max(1, len(last) - _LONGEST_MARK), len(last))]
    for folders in dict.fromkeys(((), marked)):
        for prefix in ("", *filter(_PREFIX.fullmatch, prefixes)):
            for suffix in ("", *filter(_SUFFIX.fullmatch, suffixes)):
                yield Mark(folders, prefix, suffix)
