"""What the pages of the documentation hold: code, commands, links, headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:python|pytest|pip|tensorboard) [^`]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Snippet:
    """A block of code of a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def snippets(language: str) -> list[Snippet]:
    """The blocks of one language in all pages, without the indentation of a list."""
    found: list[Snippet] = []
    for page in PAGES:
        content = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(content):
            indent, name, text = match.groups()
            if name == language:
                line = content.count("\n", 0, match.start()) + 1
                plain = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
                found.append(Snippet(page.name, line, language, plain))
    return found


@dataclass(frozen=True)
class Command:
    """A command that a page tells to type."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def commands() -> list[Command]:
    """All commands of blocks and of sentences, without comments, one for each part of `a && b`."""
    lines = [(s.page, line) for s in snippets("bash") for line in s.text.splitlines()]
    for page in PAGES:
        prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
        lines += [(page.name, line) for line in _INLINE.findall(prose.replace("\n", " "))]
    found: dict[Command, None] = {}
    for page, line in lines:
        for words in _parts(line):
            found[Command(page, tuple(words))] = None
    return list(found)


def _parts(line: str) -> Iterator[list[str]]:
    part: list[str] = []
    for word in [*shlex.split(line, comments=True), "&&"]:
        if word != "&&":
            part.append(word)
        elif part:
            yield part
            part = []


def links(page: Path) -> list[str]:
    """The targets of links and pictures of a page that lie within the project."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = _LINK.findall(prose) + _PICTURE.findall(prose)
    return [target for target in targets if not target.startswith(("http:", "https:"))]


def anchors(page: Path) -> set[str]:
    """The names by which a page's headings can be linked to, as code hosts make them."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.*?) *$", prose, re.MULTILINE)
    return {_slug(heading) for heading in headings}


def _slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
