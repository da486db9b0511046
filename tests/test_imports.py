"""No module of the package needs, by way of others, itself."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT


def module_name(package: Path, path: Path) -> str:
    """For example `traiNNer.data.scan`, and `traiNNer.data` for its `__init__.py`."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below one, those inside functions too, but for what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from child.orelse
            continue
        yield child
        yield from run_time_nodes(child)


def imported(tree: ast.Module, modules: set[str]) -> dict[str, int]:
    """The modules of `modules` that a file imports by name, and the first line of each import.

    What an import runs besides, the `__init__.py` of the packages around the module, is left out:
    a package may gather its modules, and they may import each other.
    """
    lines: dict[str, int] = {}
    for node in run_time_nodes(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else node.module for name in inner]
        for name in names:
            if name in modules:
                lines.setdefault(name, node.lineno)
    return lines


def circles(package: Path) -> list[str]:
    """Every circle of imports, as the lines that close it."""
    paths = {module_name(package, path): path for path in sorted(package.rglob("*.py"))}
    graph = {
        name: imported(ast.parse(path.read_text(encoding="utf-8")), set(paths))
        for name, path in paths.items()
    }
    closed: list[str] = []
    finished: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        if name in way:
            circle = (*way[way.index(name) :], name)
            steps = itertools.pairwise(circle)
            closed.append(", ".join(f"{a}:{graph[a][b]} imports {b}" for a, b in steps))
            return
        if name in finished:
            return
        for other in graph[name]:
            visit(other, (*way, name))
        finished.add(name)

    for name in graph:
        visit(name, ())
    return closed


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles(ROOT / "traiNNer") == []


def test_the_test_sees_a_circle_inside_a_function(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    (package / "inner").mkdir(parents=True)
    texts = {
        "inner/a.py": "from pack.inner import b\n",
        "inner/b.py": "import os\n\ndef f():\n    from pack.c import g\n",
        "c.py": "from typing import TYPE_CHECKING\nfrom pack.inner.a import x\n"
        "if TYPE_CHECKING:\n    from pack.d import y\n",
        "d.py": "import pack.c\n",
    }
    for name, text in texts.items():
        (package / name).write_text(text)
    assert circles(package) == [
        (
            "pack.c:2 imports pack.inner.a, pack.inner.a:1 imports pack.inner.b, "
            "pack.inner.b:4 imports pack.c"
        )
    ]
