"""What people are told to install is what the project needs, and nobody else's."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT

_INSTALL = re.compile(r"pip install ([^`\n;]*)")
_OPTIONS = re.compile(r"(?<!\S)--?[\w-]+( requirements[\w-]*\.txt)?")
# What a sentence goes on with after the name, and the quotes of code around it.
_NAME = re.compile(r"[\"'\\]*(?P<name>\.|[A-Za-z][\w.-]*)(?P<extra>\[\w+\])?")
_TEXTS = {".py", ".md", ".yml", ".toml", ".txt"}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def texts() -> Iterator[tuple[Path, str]]:
    for folder in ("traiNNer", "docs", "options", "scripts", "tests", "."):
        found = (ROOT / folder).rglob("*") if folder != "." else ROOT.glob("*")
        for path in found:
            if path.suffix in _TEXTS and path != Path(__file__):
                yield path, path.read_text(encoding="utf-8")


def required() -> set[str]:
    """Every distribution that requirements, extras and the tests name."""
    lines = [*project()["project"]["optional-dependencies"]["video"]]
    for file in ("requirements.txt", "requirements-dev.txt"):
        lines += (ROOT / file).read_text().splitlines()
    names = (re.match(r"[A-Za-z][\w.-]*", line) for line in lines)
    return {name.group().lower() for name in names if name}


def installed_names(text: str) -> Iterator[str]:
    # Texts in code are cut into several literals.
    joined = re.sub(r"[\"']\s*\n\s*f?[\"']", "", text)
    for command in _INSTALL.findall(joined):
        rest = _OPTIONS.sub("", command).strip()
        name = _NAME.match(rest)
        if name:
            yield name["name"].lower()


def test_commands_are_there() -> None:
    """What `pip install .` puts beside Python."""
    commands = project()["project"]["scripts"]
    assert set(commands) == {"trainner-train", "trainner-test", "trainner-validate"}
    for target in commands.values():
        module, name = target.split(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_advice_to_install_names_what_is_required() -> None:
    """A name that is not ours may be a stranger's, whose code would run at once."""
    allowed = required() | {".", "torch"}
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, text in texts()
        for name in installed_names(text)
        if name not in allowed
    ]
    assert not wrong


def test_advice_is_found_in_code_and_docs() -> None:
    assert list(installed_names('say("pip install "\n    "traiNNer[video]")')) == ["trainner"]
    assert list(installed_names("`pip install -r requirements.txt`")) == []
    assert list(installed_names('pip install --upgrade "av>=18" (or')) == ["av"]
    assert any(path.name == "pyav.py" and "pip install" in text for path, text in texts())


def test_the_distribution_has_a_name_of_its_own() -> None:
    described = project()["project"]
    # Somebody else's project has the package's name in the index.
    assert described["name"].lower() != "trainner"
    assert project()["tool"]["setuptools"]["packages"]["find"]["include"] == ["traiNNer*"]


def test_nothing_asks_for_the_former_distribution() -> None:
    former = re.compile(r"traiNNer\[\w+\]|(version|metadata|distribution)\([\"']traiNNer[\"']\)")
    assert not [path for path, text in texts() if former.search(text)]
