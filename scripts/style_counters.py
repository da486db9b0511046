"""Count what makes code dense, per 1,000 lines; `--files` says where it is."""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Comments that talk to a tool and tell a reader nothing.
PRAGMAS = ("noqa", "fmt:", "pyright:", "type:", "pragma:")
LONGEST_LINE = 100
# A class of more methods has more than one job.
MANY_METHODS = 16
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# What a person reads who wants to know how a run goes; tests are longer and repeat themselves.
READ = ("traiNNer/**/*.py", "scripts/**/*.py", "train.py", "test.py")


@dataclass(frozen=True)
class Counts:
    """What some files hold.

    Attributes:
        lines: of all files.
        packed: assignments of several values to several names, such as `a, b = x, y`.
        long_lines: lines of more than 100 columns.
        nested_ternaries: conditional expressions inside others.
        nested_comprehensions: comprehensions inside others.
        comments: that are no pragmas.
        large_classes: `file:line name (methods)` of each class of 16 methods or more.
    """

    lines: int = 0
    packed: int = 0
    long_lines: int = 0
    nested_ternaries: int = 0
    nested_comprehensions: int = 0
    comments: int = 0
    large_classes: tuple[str, ...] = ()

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.lines + other.lines,
            self.packed + other.packed,
            self.long_lines + other.long_lines,
            self.nested_ternaries + other.nested_ternaries,
            self.nested_comprehensions + other.nested_comprehensions,
            self.comments + other.comments,
            self.large_classes + other.large_classes,
        )

    def per_thousand(self, number: int) -> float:
        """A number of this as a rate per 1,000 lines."""
        return 1000 * number / max(1, self.lines)


def files(root: Path) -> list[Path]:
    """The files that are counted."""
    return sorted(path for pattern in READ for path in root.glob(pattern))


def count_file(path: Path, root: Path) -> Counts:
    """The counts of one file."""
    text = path.read_text(encoding="utf-8")
    # One walk for all of the counts.
    nodes = list(ast.walk(ast.parse(text)))
    lines = text.splitlines()
    return Counts(
        lines=len(lines),
        packed=sum(map(_is_packed, nodes)),
        long_lines=sum(len(line) > LONGEST_LINE for line in lines),
        nested_ternaries=sum(map(_is_nested_ternary, nodes)),
        nested_comprehensions=sum(map(_is_nested_comprehension, nodes)),
        comments=sum(1 for _ in _comments(text)),
        large_classes=tuple(
            f"{path.relative_to(root)}:{node.lineno} {node.name} ({_methods(node)})"
            for node in nodes
            if isinstance(node, ast.ClassDef) and _methods(node) >= MANY_METHODS
        ),
    )


def count(root: Path) -> Counts:
    """The counts of the package, the scripts and both programs."""
    return sum((count_file(path, root) for path in files(root)), Counts())


def replacing_lines(root: Path) -> int:
    """Lines of the tests that replace what could be handed in."""
    return sum(
        "monkeypatch" in line
        for path in root.glob("tests/**/*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
    )


def _is_packed(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Tuple)
        and isinstance(node.value, ast.Tuple)
    )


def _is_nested_ternary(node: ast.AST) -> bool:
    # Only right inside: one in the arguments of a call inside has brackets around it to read it by.
    return isinstance(node, ast.IfExp) and any(
        isinstance(inner, ast.IfExp) for inner in (node.test, node.body, node.orelse)
    )


def _is_nested_comprehension(node: ast.AST) -> bool:
    return isinstance(node, COMPREHENSIONS) and any(
        isinstance(inner, COMPREHENSIONS) for inner in ast.walk(node) if inner is not node
    )


def _comments(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and not any(word in token.string for word in PRAGMAS):
            yield token.string


def _methods(node: ast.ClassDef) -> int:
    """How many methods, a property and its setter being one."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return len({member.name for member in node.body if isinstance(member, functions)})


def table(counts: Counts, replacing: int) -> str:
    """The counts as lines of text."""
    rates = {
        "packed assignments": counts.packed,
        f"lines over {LONGEST_LINE} columns": counts.long_lines,
        "nested ternaries": counts.nested_ternaries,
        "nested comprehensions": counts.nested_comprehensions,
        "comments": counts.comments,
    }
    rows = [f"{'lines':<24}{counts.lines:>8,}"]
    for name, number in rates.items():
        rows.append(f"{name:<24}{number:>8,}{counts.per_thousand(number):>8.2f} per 1,000 lines")
    rows.append(f"{'monkeypatch in tests':<24}{replacing:>8,}")
    rows.append(f"{f'{MANY_METHODS} methods or more':<24}{len(counts.large_classes):>8,}")
    return "\n".join(rows + [f"  {name}" for name in counts.large_classes])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of the project")
    parser.add_argument("--files", action="store_true", help="the counts of every file, too")
    arguments = parser.parse_args()
    root: Path = arguments.root.resolve()
    if arguments.files:
        print("comments per 1,000 lines, then the numbers of what should be rare")
        for path in files(root):
            one = count_file(path, root)
            rare = (one.packed, one.long_lines, one.nested_ternaries, one.nested_comprehensions)
            numbers = "".join(f"{number:>4}" for number in rare)
            print(f"{one.per_thousand(one.comments):>6.0f}{numbers}  {path.relative_to(root)}")
        print()
    print(table(count(root), replacing_lines(root)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
