"""Reads YAML into plain values and remembers where each of them stands.

Differences from plain YAML, all of them helpful in option files: `5e-4` and `1e5` are numbers,
dates stay text, a key that stands twice in a mapping is an error, `extends: base.yml` (or a list)
merges base files underneath.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import normalize

KeyPath = tuple[str | int, ...]
# Of a whole number. Python would compute for hours on 1e999999999.
MOST_DIGITS = 300
# Keys and list items of a file; a few lines of anchors can make billions of them.
MOST_KEYS = 100_000


@dataclass(frozen=True)
class Position:
    """Where a key stands: a file's name (or "--set") and a line, counted from 1 (0: not from a
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


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if not tag.endswith(("timestamp", ":float", ":int"))
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?(0x[0-9a-fA-F]+|\d[\d_]*([eE]\+?\d+)?)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?((\d[\d_]*\.\d*|\.\d+)([eE][-+]?\d+)?|\d[\d_]*[eE]-\d+|\.(inf|Inf|INF))$|^\.(nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "").lower()
    mantissa, _, exponent = ("", "", "") if "x" in text else text.partition("e")
    try:
        if len(text) > MOST_DIGITS or int(exponent or 0) > MOST_DIGITS:
            raise _not_valid(node, f"a number of more than {MOST_DIGITS} digits")
        return int(mantissa) * 10 ** int(exponent or 0) if mantissa else int(text, 16)
    except ValueError:  # an explicit !!int before something else
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
    if any(
        sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in text
    ):  # no file can be called so
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
        OptionsError: for a missing file, a syntax error, a key that stands twice, a circle of
            `extends`.
    """
    if path.resolve() in seen:
        raise OptionsError(
            f"{path}: `extends` goes in a circle: {' -> '.join(p.name for p in (*seen, path))}"
        )
    own = _read_one(path)
    bases = own.values.pop("extends", None)
    position = own.positions.pop(("extends",), None)
    if bases is None:
        return own
    names = bases if isinstance(bases, list) else [bases]
    merged = RawOptions({})
    for name in names:
        if not isinstance(name, str):
            raise OptionsError(
                f"{position}: extends = {name!r}: expected the name of a YAML file, or a list of "
                "them"
            )
        base = path.parent / name
        if not base.is_file():
            raise OptionsError(f"{position}: extends: there is no file {base}")
        merged = _merge(merged, read_yaml(base, (*seen, path.resolve())))
    return _merge(merged, own)


def _read_one(path: Path) -> RawOptions:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.yml")) if path.parent.is_dir() else []
        hint = f"; in {path.parent} there are: {', '.join(near)}" if near else ""
        raise OptionsError(f"there is no options file {path}{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"cannot read the options file {path}: {error}") from error
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
    """Note the line of every key and item below `node`; refuse keys that stand twice."""
    if len(positions) > MOST_KEYS:
        raise OptionsError(
            f"{file}: more than {MOST_KEYS} keys and items (do anchors hold anchors many times?)"
        )
    if isinstance(node, yaml.MappingNode):
        first_lines: dict[str, int] = {}
        merged_keys = [key for key, _ in node.value if key.tag == "tag:yaml.org,2002:merge"]
        for key_node, _ in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in first_lines and key_node not in merged_keys:
                where = ".".join(map(str, (*path, key)))
                raise OptionsError(
                    f"{file}:{line}: '{where}' stands twice (first in line {first_lines[key]})"
                )
            first_lines[key] = line
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
        both = isinstance(below, dict) and isinstance(above, dict)
        if both and normalize(str(above.get("type", below.get("type")))) == normalize(
            str(below.get("type"))
        ):
            return below | {
                key: merged(below[key], value, (*path, key)) if key in below else value
                for key, value in above.items()
            }
        for stale in [p for p in positions if p[: len(path)] == path]:
            del positions[stale]
        return above

    values = merged(base.values, top.values, ())
    return RawOptions(values, positions | top.positions)


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
                known = f"items 0 to {len(node) - 1}" if node else "no items"
                raise OptionsError(
                    f"--set {assignment}: '{'.'.join(map(str, path))}' is a list with {known}, not "
                    f"'{key}'"
                )
            step = int(key)
        elif isinstance(node, dict):
            step = key
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
            for stale in [p for p in raw.positions if p[: len(path)] == path]:
                del raw.positions[stale]
            raw.positions[path] = Position("--set", 0)
        else:
            node = node[step]
