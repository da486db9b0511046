"""Reads YAML into plain values and remembers the place of each of them.

Differences from plain YAML, all of them helpful in option files: `5e-4` and `1e5` are numbers,
dates stay text, a key that appears twice in a mapping is an error, `extends: base.yml` (or a list)
merges base files underneath.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import normalize

KeyPath = tuple[str | int, ...]
# Digits of a whole number. Python would compute for hours on 1e999999999.
MOST_DIGITS = 300
# Keys and list items of a file; a few lines of anchors can make billions of them.
MOST_KEYS = 100_000


@dataclass(frozen=True)
class Position:
    """The place of a key: a file's name (or "--set") and a line, counted from 1 (0: not from a
    file).
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


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


class _Loader(yaml.SafeLoader):
    """SafeLoader with numbers as people write them and without dates."""


_REPLACED = ("timestamp", ":float", ":int")


def _without_replaced(resolvers: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(_REPLACED)]


# A copy, because the class attribute is the one of all of PyYAML's loaders.
_Loader.yaml_implicit_resolvers = {
    first: _without_replaced(resolvers)
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# YAML 1.1 reads 5e-4 (without a dot) as text and 1_000 as a number; people mean both as numbers.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?(0x[0-9a-fA-F]+|\d[\d_]*([eE]\+?\d+)?)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?((\d[\d_]*\.\d*|\.\d+)([eE][-+]?\d+)?|\d[\d_]*[eE]-\d+|\.(inf|Inf|INF))$"
        r"|^\.(nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "").lower()
    # In hexadecimal numbers "e" is a digit.
    is_hex = "x" in text
    mantissa, _, exponent = ("", "", "") if is_hex else text.partition("e")
    try:
        if len(text) > MOST_DIGITS or int(exponent or 0) > MOST_DIGITS:
            raise _not_valid(node, f"a number of more than {MOST_DIGITS} digits")
        return int(mantissa) * 10 ** int(exponent or 0) if mantissa else int(text, 16)
    except ValueError:
        # An explicit !!int before something else.
        raise _not_valid(node, f"'{text}' is not a whole number") from None


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    try:
        return loader.construct_yaml_float(node)
    except ValueError:
        raise _not_valid(node, f"'{node.value}' is not a number") from None


def _construct_bool(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    try:
        return loader.construct_yaml_bool(node)
    except KeyError:
        raise _not_valid(node, f"'{node.value}' is not true or false") from None


def _construct_text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    # Texts become names of files, and no file can be called so.
    if any(sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in text):
        raise _not_valid(node, "a text with a NUL or half of a surrogate pair")
    return text


def _not_valid(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)
_Loader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)
_Loader.add_constructor("tag:yaml.org,2002:str", _construct_text)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _construct_text)


def parse_scalar(text: str) -> Any:
    """A value typed on the command line, with YAML's types (`2e-4`, `true`, `[1, 2]`, `null`).

    Raises:
        OptionsError: if it is not YAML.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise OptionsError(
            f"--set: '{text}' is not a YAML value ({error.__class__.__name__})"
        ) from error


def read_yaml(path: Path, seen: tuple[Path, ...] = ()) -> RawOptions:
    """Read `path` and the files it extends.

    Raises:
        OptionsError: for a missing file, a syntax error, a key that appears twice, a circle of
            `extends`.
    """
    if path.resolve() in seen:
        raise OptionsError(
            f"{path}: `extends` goes in a circle: {' -> '.join(p.name for p in (*seen, path))}"
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
                f"{position}: extends = {name!r}: expected the name of a YAML file, or a list of "
                "them"
            )
        base = path.parent / name
        if not base.is_file():
            raise OptionsError(f"{position}: extends: there is no file {base}")
        below = _merge(below, read_yaml(base, (*seen, path.resolve())))
    return _merge(below, top)


def _read_one(path: Path) -> RawOptions:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.yml")) if path.parent.is_dir() else []
        hint = f"; in {path.parent} there are: {', '.join(near)}" if near else ""
        raise OptionsError(f"there is no options file {path}{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"cannot read the options file {path}: {error}") from error
    # The node is needed for the lines, so the loader is driven by hand.
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise OptionsError(f"{path}: the file is empty")
        if not isinstance(node, yaml.MappingNode):
            raise OptionsError(f"{path}:1: expected `key: value` lines")
        positions: dict[KeyPath, Position] = {}
        _locate(loader, node, (), str(path), positions)
        return RawOptions(loader.construct_document(node), positions)
    except RecursionError:
        raise OptionsError(f"{path}: nested too deeply (does an anchor hold itself?)") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise OptionsError(f"{where}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise OptionsError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error
    finally:
        if loader is not None:
            loader.dispose()


def _locate(
    loader: _Loader, node: yaml.Node, path: KeyPath, file: str, positions: dict[KeyPath, Position]
) -> None:
    """Note the line of every key and item below `node`; refuse keys that appear twice."""
    if len(positions) > MOST_KEYS:
        raise OptionsError(
            f"{file}: more than {MOST_KEYS} keys and items (do anchors hold anchors many times?)"
        )
    if isinstance(node, yaml.MappingNode):
        # PyYAML keeps the last of equal keys and says nothing.
        first_lines: dict[str, int] = {}
        # `<<` may be there more than once, and is no key of the mapping.
        merged_keys = [key for key, _ in node.value if key.tag == "tag:yaml.org,2002:merge"]
        for key_node, _ in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in first_lines and key_node not in merged_keys:
                where = ".".join(map(str, (*path, key)))
                raise OptionsError(
                    f"{file}:{line}: '{where}' appears twice (first in line {first_lines[key]})"
                )
            first_lines[key] = line
        # Merges `<<` into the mapping, as constructing it would do later.
        loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            child = (*path, str(key_node.value))
            positions[child] = Position(file, key_node.start_mark.line + 1)
            _locate(loader, value_node, child, file, positions)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            positions[(*path, index)] = Position(file, item.start_mark.line + 1)
            _locate(loader, item, (*path, index), file, positions)


def _merge(base: RawOptions, top: RawOptions) -> RawOptions:
    """`top` over `base`: mappings merge, all else is replaced; so is a mapping whose `type` is
    another one.
    """
    positions = dict(base.positions)

    def merged(below: Any, above: Any, path: KeyPath) -> Any:
        # Parameters belong to the type that they were written for, so another type takes none of
        # them over.
        if _is_mapping(below) and _is_mapping(above) and _same_type(below, above):
            return below | {
                key: merged(below[key], value, (*path, key)) if key in below else value
                for key, value in above.items()
            }
        _forget(positions, path)
        return above

    values = merged(base.values, top.values, ())
    return RawOptions(values, positions | top.positions)


def _is_mapping(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _same_type(below: dict[str, Any], above: dict[str, Any]) -> bool:
    """Whether both sections name one `type`; a section without one has that of the other."""
    name = below.get("type")
    return normalize(str(above.get("type", name))) == normalize(str(name))


def _forget(positions: dict[KeyPath, Position], path: KeyPath) -> None:
    """Drop the positions of `path` and of all that is below it."""
    for stale in [known for known in positions if known[: len(path)] == path]:
        del positions[stale]


def apply_override(raw: RawOptions, assignment: str) -> None:
    """Carry out one `--set a.b.c=value` on `raw`; numbers in the path count list items from 0.

    Raises:
        OptionsError: if the assignment has no `=`, or its path goes through a plain value or past a
            list's end.
    """
    path_text, equals, value_text = assignment.partition("=")
    if not equals or not all(key.strip() for key in path_text.split(".")):
        raise OptionsError(
            f"--set {assignment}: expected KEY=VALUE, for example --set train.total_iter=1000"
        )
    keys = path_text.strip().split(".")
    node: Any = raw.values
    path: KeyPath = ()
    for place, key in enumerate(keys):
        last = place == len(keys) - 1
        step: Any
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                items = f"items 0 to {len(node) - 1}" if node else "no items"
                raise OptionsError(
                    f"--set {assignment}: '{'.'.join(map(str, path))}' is a list with {items}, not "
                    f"'{key}'"
                )
            step = int(key)
        elif isinstance(node, dict):
            step = key
            # A section that the file leaves out, or leaves empty.
            if not last and node.get(key) is None:
                node[key] = {}
                raw.positions[(*path, key)] = Position("--set", 0)
        else:
            raise OptionsError(
                f"--set {assignment}: '{'.'.join(map(str, path))}' is a plain value and has no "
                f"'{key}'"
            )
        path = (*path, step)
        if last:
            node[step] = parse_scalar(value_text)
            _forget(raw.positions, path)
            raw.positions[path] = Position("--set", 0)
        else:
            node = node[step]
