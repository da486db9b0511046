"""Reads YAML into plain values and remembers the place of each of them.

Differences from plain YAML, all of them helpful in option files: `5e-4` and `1e5` are numbers,
dates stay text, a key that appears twice in a mapping is an error, `extends: base.yml` (or a list)
merges base files underneath.
"""

from __future__ import annotations

import logging
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from traiNNer.options.length import MEASURES
from traiNNer.options.yaml_advice import other_language
from traiNNer.options.yaml_parser import (
    KeyPath,
    Position,
    Source,
    parse_yaml,
    refuse_depth,
    refuse_size,
)
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.files import at_home
from traiNNer.utils.registry import normalize
from traiNNer.utils.text import shortened, whole_number

log = logging.getLogger(__name__)

# The largest options of our own have 2 KiB.
MOST_BYTES = 2**20
# Files that one file extends, all together; files that extend each other twice make many of few.
MOST_FILES = 100
# A message's line holds that much of an assignment, whose value may be a whole section.
_LONGEST_ASSIGNMENT = 60
_COMMAND_LINE = "--set"
# Keys that say one thing in several ways: one of them that is set over a base, or on the command
# line, replaces the others.
_ALTERNATIVES: tuple[tuple[KeyPath, ...], ...] = (
    tuple(("train", key) for key in MEASURES),
    (("train", "warmup_iter"), ("train", "warmup")),
    (("train", "ema_decay"), ("train", "ema_half_life")),
)
# What is given in the measure of the run's length, and means something else in another one.
_IN_THE_MEASURE: tuple[KeyPath, ...] = (
    ("val", "val_freq"),
    ("logger", "save_checkpoint_freq"),
    ("train", "warmup"),
    ("train", "ema_half_life"),
)


@dataclass
class RawOptions:
    """Values as YAML gave them, and the position of every key and list item."""

    values: dict[str, Any]
    positions: dict[KeyPath, Position] = field(default_factory=dict)

    def position(self, path: KeyPath) -> Position:
        """The position of `path`, or of its nearest parent that has one (for keys that are
        missing).
        """
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, Position("options", 0))


def read_yaml(path: Path) -> RawOptions:
    """Read `path` and the files it extends.

    Raises:
        OptionsError: for a missing file, a syntax error, a key that appears twice, a circle of
            `extends`.
    """
    return _read_with_bases(path, (), [])


def _read_with_bases(path: Path, above: tuple[Path, ...], known: list[Path]) -> RawOptions:
    """`path` over its bases.

    Args:
        path: of the file.
        above: the files that extend it, the first one first.
        known: every file that was read so far; this one and its bases are added.
    """
    if path.resolve() in above:
        raise OptionsError(
            f"{path}: `extends` goes in a circle: {' -> '.join(p.name for p in (*above, path))}"
        )
    known.append(path)
    if len(known) > MOST_FILES:
        raise OptionsError(
            f"{known[0]}: it extends more than {MOST_FILES} files (do files extend files many "
            "times?)"
        )
    top = _read_one(path)
    bases = top.values.pop("extends", None)
    position = top.positions.pop(("extends",), None)
    if bases is None:
        return top
    names = bases if isinstance(bases, list) else [bases]
    below = RawOptions({})
    for name in names:
        if not isinstance(name, str):
            raise OptionsError(
                f"{position}: extends = {shortened(repr(name), _LONGEST_ASSIGNMENT)}: expected the "
                "name of a YAML file, or a list of them"
            )
        base = path.parent / at_home(name)
        if not base.is_file():
            raise OptionsError(f"{position}: extends: there is no file {base}")
        below = _merge(below, _read_with_bases(base, (*above, path.resolve()), known))
        refuse_size(len(below.positions), Source(str(path)))
    return _merge(below, top)


def _read_one(path: Path) -> RawOptions:
    text = _read_text(path)
    language = other_language(text)
    # Before it is parsed: it may pass for one long text, or for strange keys.
    if language is not None:
        raise OptionsError(f"{path}: {language}")
    values, positions = parse_yaml(text, Source(str(path)))
    if values is None:
        raise OptionsError(f"{path}: the file is empty")
    if not _is_mapping(values):
        raise OptionsError(f"{path}:1: expected `key: value` lines")
    return RawOptions(values, positions)


def _read_text(path: Path) -> str:
    """The file's text.

    Raises:
        OptionsError: if there is no such file, or it is no file, too large, or not UTF-8.
    """
    try:
        # Before it is opened: a pipe that nobody writes to would never open.
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a folder" if path.is_dir() else "a pipe or a device"
            raise OptionsError(f"the options {path} are {what}; expected a YAML file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.yml")) if path.parent.is_dir() else []
        hint = f"; in {path.parent} there are: {', '.join(near)}" if near else ""
        raise OptionsError(f"there is no options file {path}{hint}") from None
    except OSError as error:
        raise OptionsError(
            f"cannot read the options file {path}: {error.strerror or error}"
        ) from error
    if len(content) > MOST_BYTES:
        raise OptionsError(
            f"{path} has more than {MOST_BYTES // 2**20} MiB, which no options file has (is it a "
            "checkpoint?)"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise OptionsError(f"{path}:{line}: the file is not UTF-8; save it as UTF-8") from error


def _merge(base: RawOptions, top: RawOptions) -> RawOptions:
    """`top` over `base`: mappings merge, all else is replaced; so is a mapping whose `type` is
    another one.
    """
    for group in _ALTERNATIVES:
        for key in group:
            if _value_at(top.values, key) is not None:
                _drop_replaced(base, key, kept=set(top.positions))
    positions = dict(base.positions)

    def merged(below: Any, above: Any, path: KeyPath) -> Any:
        # Parameters belong to the type that they were written for, so another type takes none of
        # them over.
        if _is_mapping(below) and _is_mapping(above) and _same_type(below, above):
            return below | {
                key: merged(below[key], value, (*path, key)) if key in below else value
                for key, value in above.items()
            }
        _forget(positions, path, below)
        return above

    values = merged(base.values, top.values, ())
    return RawOptions(values, positions | top.positions)


def _value_at(values: Any, path: KeyPath) -> Any:
    """What stands at `path`; None for nothing."""
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _drop_replaced(raw: RawOptions, key: KeyPath, kept: set[KeyPath]) -> list[KeyPath]:
    """Drop what says in another way what `key` says and, where that was the length of the run in
    another measure, what was given in that; all but `kept`. Which these were.
    """
    (group,) = (group for group in _ALTERNATIVES if key in group)
    replaced = [other for other in group if other != key]
    replaced = [other for other in replaced if _value_at(raw.values, other) is not None]
    if replaced and key[-1] in MEASURES:
        replaced += _IN_THE_MEASURE
    dropped: list[KeyPath] = []
    for path in replaced:
        value = _value_at(raw.values, path)
        if value is not None and path not in kept:
            del _value_at(raw.values, path[:-1])[path[-1]]
            _forget(raw.positions, path, value)
            dropped.append(path)
    return dropped


def _is_mapping(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _same_type(below: dict[str, Any], above: dict[str, Any]) -> bool:
    """Whether both sections name one `type`; a section without one has that of the other."""
    name = below.get("type")
    return normalize(str(above.get("type", name))) == normalize(str(name))


def _forget(positions: dict[KeyPath, Position], path: KeyPath, value: Any) -> None:
    """Drop the positions of `path` and of all that is below it, where `value` stood."""
    positions.pop(path, None)
    if isinstance(value, dict):
        for key, below in value.items():
            # Positions have keys as they are written; a key like `1` is a number in values.
            _forget(positions, (*path, str(key)), below)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            _forget(positions, (*path, index), below)


def apply_override(raw: RawOptions, assignment: str) -> None:
    """Carry out one `--set a.b.c=value` on `raw`; numbers in the path count list items from 0.

    Raises:
        OptionsError: if the assignment has no `=`, its value is not YAML, its path goes through a
            plain value or past a list's end, or it makes the options deeper or larger than options
            ever are.
    """
    shown = f"{_COMMAND_LINE} {shortened(assignment, _LONGEST_ASSIGNMENT)}"
    refuse_broken_text(_COMMAND_LINE, assignment)
    path_text, equals, value_text = assignment.partition("=")
    if not equals or not all(key.strip() for key in path_text.split(".")):
        raise OptionsError(f"{shown}: expected KEY=VALUE, for example --set train.total_iter=1000")
    source = Source(shown, is_file=False)
    keys = path_text.strip().split(".")
    refuse_depth(len(keys), source)
    node: Any = raw.values
    path: KeyPath = ()
    for key in keys[:-1]:
        step = _step(node, path, key, shown)
        # A section that the file leaves out, or leaves empty.
        if isinstance(node, dict) and node.get(key) is None:
            node[key] = {}
            raw.positions[(*path, key)] = Position(_COMMAND_LINE, 0)
        node = node[step]
        path = (*path, step)
    step = _step(node, path, keys[-1], shown)
    former = node.get(step) if isinstance(node, dict) else node[step]
    path = (*path, step)
    node[step], positions = parse_yaml(value_text, source, path)
    _forget(raw.positions, path, former)
    if node[step] is not None and any(path in group for group in _ALTERNATIVES):
        typed = {known for known, at in raw.positions.items() if at.file == _COMMAND_LINE}
        for dropped in _drop_replaced(raw, path, kept=typed):
            log.info("%s replaces %s", ".".join(map(str, path)), ".".join(map(str, dropped)))
    below = dict.fromkeys(positions, Position(_COMMAND_LINE, 0))
    raw.positions |= below | {path: Position(_COMMAND_LINE, 0)}
    refuse_size(len(raw.positions), source)


def _step(node: Any, path: KeyPath, key: str, shown: str) -> str | int:
    """The key or the index by which `key` goes on from `node`, which stands at `path`."""
    where = ".".join(map(str, path))
    if isinstance(node, dict):
        return key
    if not isinstance(node, list):
        raise OptionsError(f"{shown}: '{where}' is a plain value and has no '{key}'")
    index = whole_number(key)
    if index is None or index >= len(node):
        items = f"items 0 to {len(node) - 1}" if node else "no items"
        raise OptionsError(f"{shown}: '{where}' is a list with {items}, not '{key}'")
    return index


def refuse_broken_text(argument: str, text: str) -> None:
    """Refuse an argument of the command line whose bytes are no text in the system's encoding.

    Raises:
        OptionsError: naming the argument.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        readable = text.encode("ascii", "backslashreplace").decode()
        raise OptionsError(
            f"{argument} {shortened(readable, _LONGEST_ASSIGNMENT)}: holds bytes that are no text "
            "(half of a letter, or another encoding than the terminal's); type it anew"
        ) from None
