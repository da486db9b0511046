"""A module imports only from floors below its own; siblings on one floor do not import each
other.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.support import ROOT
from tests.test_imports import run_time_nodes

# The one module that may name types of the floors above it, for a type checker alone: what a
# registry holds.
NAMES_TYPES_ABOVE = "utils/registry.py"

FLOORS = {
    "utils": 0,
    "options": 1, "ops": 1, "video": 1,
    "archs": 2, "data": 2, "demo": 2, "losses": 2, "metrics": 2, "optim": 2,
    "models": 3,
    "automations": 4,
    "planning": 5,
    "engine": 6,
    "inference": 7,
}  # fmt: skip


def imported_packages(path: Path, *, with_types: bool) -> list[tuple[int, str]]:
    """(line, package below traiNNer) of every import in a file, those inside functions too.

    Args:
        path: the file.
        with_types: count what only a type checker imports, too.
    """
    found: list[tuple[int, str]] = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if with_types else run_time_nodes(tree):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found += [
            (node.lineno, name.split(".")[1]) for name in names if name.startswith("traiNNer.")
        ]
    return found


def violations(package: Path) -> list[str]:
    """Every import of a floor that is not below, as `room/file.py:line: what`."""
    wrong: list[str] = []
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        room = place.parts[0]
        if room.endswith(".py"):
            continue
        with_types = place.as_posix() != NAMES_TYPES_ABOVE
        for line, other in imported_packages(path, with_types=with_types):
            if other != room and FLOORS[other] >= FLOORS[room]:
                wrong.append(f"{place}:{line}: {room} (floor {FLOORS[room]}) imports {other}")
    return wrong


def drawn_floors(page: str) -> dict[str, int]:
    """The rooms of the page's picture, with their floors."""
    picture = page.split("## Floors")[1].split("```")[1]
    floors: dict[str, int] = {}
    for line in picture.strip().splitlines():
        floor, rooms = line.split(maxsplit=1)
        floors |= {room: int(floor) for room in re.findall(r"(\w+)/", rooms)}
    return floors


def test_floors() -> None:
    assert violations(ROOT / "traiNNer") == []


def test_the_picture_is_the_real_one() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert drawn_floors(page) == FLOORS
    assert FLOORS.keys() == {path.parent.name for path in ROOT.glob("traiNNer/*/__init__.py")}
    named = re.findall(r"(?<![\w/])((?!tests)\w+/\w+\.py)", page)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / "traiNNer" / name).exists()] == []


def test_the_test_sees_a_violation(tmp_path: Path) -> None:
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils/bad.py").write_text("def f():\n    from traiNNer.engine import trainer\n")
    wrong = "utils (floor 0) imports engine"
    assert violations(tmp_path) == [f"utils/bad.py:2: {wrong}"]


def test_types_of_floors_above_are_for_the_registries_alone(tmp_path: Path) -> None:
    (tmp_path / "utils").mkdir()
    text = "if TYPE_CHECKING:\n    from traiNNer.archs import spec\n"
    (tmp_path / "utils/registry.py").write_text(text)
    (tmp_path / "utils/other.py").write_text(text)
    assert violations(tmp_path) == ["utils/other.py:2: utils (floor 0) imports archs"]
