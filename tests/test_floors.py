"""A module imports only from floors below its own; siblings on one floor do not import each
other.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.support import ROOT

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


def imported_packages(path: Path) -> list[tuple[int, str]]:
    """(line, package below traiNNer) of every import in a file, those inside functions too."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found += [
            (node.lineno, name.split(".")[1]) for name in names if name.startswith("traiNNer.")
        ]
    return found


def violations(package: Path) -> list[str]:
    wrong: list[str] = []
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package).parts[0]
        if own.endswith(".py"):
            continue
        for line, other in imported_packages(path):
            if other != own and FLOORS[other] >= FLOORS[own]:
                wrong.append(
                    f"{path.relative_to(ROOT)}:{line}: {own} (floor {FLOORS[own]}) imports {other}"
                )
    return wrong


def test_floors() -> None:
    assert violations(ROOT / "traiNNer") == []


def test_the_test_sees_a_violation(tmp_path: Path, monkeypatch) -> None:
    module = tmp_path / "utils" / "bad.py"
    module.parent.mkdir()
    module.write_text("def f():\n    from traiNNer.engine import trainer\n")
    monkeypatch.setattr("tests.test_floors.ROOT", tmp_path)
    assert violations(tmp_path) == ["utils/bad.py:2: utils (floor 0) imports engine"]
