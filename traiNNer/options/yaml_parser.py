"""YAML text to plain values and the place of each of them, within bounds.

Depth and size are counted while the text is read, and again where aliases repeat what an anchor
holds, so a few lines that stand for billions of items are refused before there is one of them.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import yaml

from traiNNer.options.yaml_advice import advice, other_language
from traiNNer.utils.errors import OptionsError

KeyPath = tuple[str | int, ...]
# Digits of a whole number. Python would compute for hours on 1e999999999.
MOST_DIGITS = 300
# Keys and list items; a run's options are below 300. Ten thousand are read within a second.
MOST_KEYS = 10_000
# Sections within sections; the schema has five. Python itself ends at about a thousand.
MOST_LEVELS = 50

_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Position:
    """The place of a key: a file's name (or "--set") and a line, counted from 1 (0: not from a
    file).
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Source:
    """The text's origin, for messages: a file, or an assignment of the command line."""

    name: str
    is_file: bool = True

    def at(self, line: int) -> Position:
        """The place of a line, counted from 1."""
        return Position(self.name, line if self.is_file else 0)


class _Loader(yaml.SafeLoader):
    """SafeLoader with numbers as people write them, without dates, within bounds."""

    def __init__(self, text: str, source: Source) -> None:
        self.source = source
        self.levels = 0
        self.nodes = 0
        super().__init__(text)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Counts what PyYAML composes, and ends it in time."""
        self.levels += 1
        self.nodes += 1
        refuse_depth(self.levels - 1, self.source)
        # A mapping's keys are nodes as well.
        refuse_size(self.nodes // 2, self.source)
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merges `<<`, once the sum of what it merges is known to be small."""
        merged = 0
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            below = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for mapping in below:
                if isinstance(mapping, yaml.MappingNode):
                    self.flatten_mapping(mapping)
                    merged += len(mapping.value)
                refuse_size(merged, self.source)
        super().flatten_mapping(node)


def refuse_depth(levels: int, source: Source) -> None:
    """Refuse what is nested deeper than options ever are.

    Raises:
        OptionsError: for more than MOST_LEVELS levels.
    """
    if levels > MOST_LEVELS:
        raise OptionsError(
            f"{source.name}: nested too deeply, more than {MOST_LEVELS} levels (a bracket that is "
            "not closed, or an anchor that holds itself?)"
        )


def refuse_size(items: int, source: Source) -> None:
    """Refuse more keys and items than options ever have.

    Raises:
        OptionsError: for more than MOST_KEYS.
    """
    if items > MOST_KEYS:
        raise OptionsError(
            f"{source.name}: more than {MOST_KEYS:,} keys and items (do anchors hold anchors many "
            "times?)"
        )


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
    re.compile(r"^[-+]?(0x[0-9a-fA-F]+|[0-9][0-9_]*([eE]\+?[0-9]+)?)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(([0-9][0-9_]*\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE]-[0-9]+"
        r"|\.(inf|Inf|INF))$|^\.(nan|NaN|NAN)$"
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
    if node.style == '"' and any(map(_is_control, text)):
        raise _not_valid(node, "a text in double quotes in which a backslash makes a control sign")
    return text


def _is_control(sign: str) -> bool:
    """Whether only an escape puts the sign into a text: `"C:\new"` has a line end, `"C:\table"` a
    tab.
    """
    return unicodedata.category(sign) in ("Cc", "Zl", "Zp") or sign == "\xa0"


def _not_valid(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)
_Loader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)
_Loader.add_constructor("tag:yaml.org,2002:str", _construct_text)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _construct_text)


def parse_yaml(
    text: str, source: Source, path: KeyPath = ()
) -> tuple[Any, dict[KeyPath, Position]]:
    """Values as YAML gives them, and the position of every key and item.

    Args:
        text: the YAML; empty text is None.
        source: for messages and positions.
        path: of the key whose value the text is; positions lie below it.

    Raises:
        OptionsError: if it is not YAML, a key appears twice, or it is deeper or larger than options
            ever are.
    """
    loader: _Loader | None = None
    try:
        loader = _Loader(text, source)
        # The node is needed for the lines, so the loader is driven by hand.
        node = loader.get_single_node()
        if node is None:
            return None, {}
        locator = _Locator(loader, source)
        locator.visit(node, path, len(path))
        return _unshared(loader.construct_document(node)), locator.positions
    except RecursionError:
        # Merges that hold themselves are followed before anything could count them.
        raise OptionsError(
            f"{source.name}: nested too deeply (does an anchor hold itself?)"
        ) from None
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, source) from error
    finally:
        if loader is not None:
            loader.dispose()


def _unshared(value: Any) -> Any:
    """A copy in which no two places share a section, as an alias and its anchor do: `--set` is to
    change one of them.
    """
    if isinstance(value, dict):
        return {key: _unshared(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_unshared(below) for below in value]
    return value


def _syntax_error(error: yaml.YAMLError, text: str, source: Source) -> OptionsError:
    """PyYAML's complaint with its line, and what to do about it."""
    language = other_language(text) if source.is_file else None
    if language is not None:
        return OptionsError(f"{source.name}: {language}")
    line = 1
    problem = str(error).splitlines()[0]
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = error.problem or error.context or problem
    elif isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        sign = error.character
        code = ord(sign) if isinstance(sign, str) else int(sign)
        problem = f"the control sign U+{code:04X} cannot stand in it; delete it"
    known = advice(problem)
    hint = f"; {known}" if known else ""
    return OptionsError(f"{source.at(line)}: not valid YAML: {problem}{hint}")


class _Locator:
    """Notes the line of every key and item; refuses keys that appear twice, and too many of all."""

    def __init__(self, loader: _Loader, source: Source) -> None:
        self.loader = loader
        self.source = source
        self.positions: dict[KeyPath, Position] = {}
        self._visited = 0

    def visit(self, node: yaml.Node, path: KeyPath, level: int) -> None:
        """Note all that is below `node`, which stands at `path`."""
        self._visited += 1
        refuse_depth(level, self.source)
        refuse_size(self._visited, self.source)
        if isinstance(node, yaml.MappingNode):
            self._refuse_twins(node, path)
            # Merges `<<` into the mapping, as constructing it would do later.
            self.loader.flatten_mapping(node)
            for key_node, value_node in node.value:
                self._note((*path, str(key_node.value)), key_node, value_node, level)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._note((*path, index), item, item, level)

    def _note(self, path: KeyPath, place: yaml.Node, value: yaml.Node, level: int) -> None:
        self.positions[path] = self.source.at(place.start_mark.line + 1)
        self.visit(value, path, level + 1)

    def _refuse_twins(self, node: yaml.MappingNode, path: KeyPath) -> None:
        """PyYAML keeps the last of equal keys and says nothing."""
        first_lines: dict[str, int] = {}
        for key_node, _ in node.value:
            # `<<` may be there more than once, and is no key of the mapping.
            if key_node.tag == _MERGE:
                continue
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in first_lines:
                where = ".".join(map(str, (*path, key)))
                raise OptionsError(
                    f"{self.source.at(line)}: '{where}' appears twice (first in line "
                    f"{first_lines[key]})"
                )
            first_lines[key] = line
