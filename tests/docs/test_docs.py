"""What the documentation tells to type works: commands, options, code, links."""

from __future__ import annotations

import argparse
import importlib
import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import yaml

from tests.docs.pages import PAGES, Command, Snippet, anchors, commands, links, snippets
from tests.support import ROOT, load_script
from traiNNer.options.loading import load_options
from traiNNer.options.reference import explain_key
from traiNNer.options.schema import TestOptions, TrainingOptions

# Files that the reader makes, and the types that the walkthroughs add.
READERS = {"options/mine.yml": "options/demo.yml", "FILE": "options/demo.yml"}
ADDED = ("edge", "mae", "span_xl", "tinynet")
COMMANDS = commands()
# What comes with Python, a shell or the requirements, and takes no options of ours.
TOOLS = {"torchrun", "pytest", "pip", "source", "cp", "tensorboard", "pre-commit"}


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


class ParsedError(Exception):
    """Ends a program as soon as it has understood its arguments."""


def parse_only(program: Callable[[], object], arguments: list[str]) -> argparse.Namespace:
    """What the program's own parser makes of the arguments; nothing else of it runs."""
    parse = argparse.ArgumentParser.parse_args
    parsed: list[argparse.Namespace] = []

    def stop(parser: argparse.ArgumentParser, *_: object) -> argparse.Namespace:
        parsed.append(parse(parser, arguments))
        raise ParsedError

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", stop),
        pytest.raises(ParsedError),
    ):
        program()
    return parsed[0]


def named(command: Command, first: str) -> bool:
    return command.words[0] == first


def of_python() -> list[Command]:
    ours = [c for c in COMMANDS if named(c, "python") and c.words[1:3] != ("-m", "venv")]
    return [c for c in ours if not any(word in c.words for word in ADDED)]


def program_of(command: Command) -> tuple[Callable[[], object], list[str]]:
    words = list(command.words[1:])
    if words[0] == "-m":
        return importlib.import_module(words[1]).main, words[2:]
    assert (ROOT / words[0]).is_file(), command
    if words[0] in ("train.py", "test.py"):
        return load_script(words[0]).main, words[1:]
    return importlib.import_module(words[0].removesuffix(".py").replace("/", ".")).main, words[1:]


@pytest.mark.parametrize("command", of_python(), ids=str)
def test_commands_are_understood(command: Command) -> None:
    program, words = program_of(command)
    arguments = parse_only(program, words)
    key = getattr(arguments, "explain", None)
    if key is not None and not key.endswith(ADDED) and key != "KEY":
        assert explain_key(key)
    opt = getattr(arguments, "opt", None)
    if opt is None:
        return
    file = ROOT / READERS.get(str(opt), str(opt))
    assert file.is_file(), command
    model = TestOptions if command.words[1] == "test.py" else TrainingOptions
    # A walkthrough's network is known to its own test below.
    overrides = [o for o in getattr(arguments, "overrides", []) if not any(a in o for a in ADDED)]
    load_options(model, file, overrides, name=getattr(arguments, "name", None))


def test_there_are_commands() -> None:
    assert len(of_python()) > 20
    assert {"train.py", "test.py"} <= {command.words[1] for command in of_python()}


@pytest.mark.parametrize("command", [c for c in COMMANDS if not named(c, "python")], ids=str)
def test_other_commands_name_what_is_there(command: Command) -> None:
    first = command.words[0]
    assert first in TOOLS
    files = [word for word in command.words[1:] if "/" in word or word.endswith((".txt", ".py"))]
    made = {".venv/bin/activate", *READERS}
    assert all(word in made or (ROOT / word).exists() for word in files), command


def complete(snippet: Snippet, folder: Path) -> Path:
    """The snippet as an options file: on top of the demo, or of the preset for testing."""
    values = yaml.safe_load(snippet.text)
    if "losses" in values:
        values = {"train": values}
    # Where nothing of its own is named, it is a part of some other file.
    if not {"name", "datasets"} <= values.keys() and "extends" not in values:
        values["extends"] = "test.yml" if snippet.page == "testing.md" else "demo.yml"
    shutil.copytree(ROOT / "options", folder / "options")
    path = folder / "options" / "snippet.yml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


# Those with extensions are run in tests/docs/test_extensions.py.
YAML = [
    s
    for s in snippets("yaml")
    # Weights of a backbone are not on every machine.
    if "extensions:" not in s.text
    and "type: perceptual" not in s.text
    and "type: dists" not in s.text
    and not any(f"type: {name}" in s.text for name in ADDED)
]


@pytest.mark.parametrize("snippet", YAML, ids=str)
def test_options_are_right(snippet: Snippet, tmp_path: Path) -> None:
    model = TestOptions if snippet.page == "testing.md" else TrainingOptions
    load_options(model, complete(snippet, tmp_path))


@pytest.mark.parametrize("snippet", snippets("python"), ids=str)
def test_code_compiles(snippet: Snippet) -> None:
    # The loop in architecture.md is the inside of a function.
    text = snippet.text
    if snippet.page == "architecture.md":
        body = "\n".join(f"    {line}" for line in text.splitlines())
        text = f"def loop(self):\n{body}\n"
    compile(text, str(snippet), "exec")


def test_the_loop_of_the_architecture_page_is_the_loop() -> None:
    from traiNNer.engine.run import Run

    loop = next(s for s in snippets("python") if "while not self.is_over" in s.text)
    code = [line.strip() for line in inspect.getsource(Run.train).splitlines()]
    assert [line.strip() for line in loop.text.splitlines() if line.strip() not in code] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_demo_takes_one_time() -> None:
    """One figure, wherever it is told."""
    places = ["README.md", "docs/presets.md", "docs/getting_started.md", "options/demo.yml"]
    for place in places:
        assert "about a minute" in (ROOT / place).read_text().replace("\n", " ").lower(), place
