"""What to do about a text that is not YAML, as far as its cause can be told."""

from __future__ import annotations

import re

_BACKSLASH = (
    "in double quotes a backslash is special: write a Windows path in single quotes, or with / "
    "instead"
)
# Beginnings or parts of PyYAML's complaints, each with what is usually behind it.
_ADVICE = (
    ("backslash", _BACKSLASH),
    ("unknown escape character", _BACKSLASH),
    ("expected escape sequence", _BACKSLASH),
    ("'\\t' that cannot start", "indent with blanks, not with tabs"),
    ("that cannot start any token", "put the text into single quotes"),
    (
        "mapping values are not allowed",
        "check the indentation; a text that holds `: ` belongs into single quotes",
    ),
    (
        "expected alphabetic or numeric",
        "a text that begins with * or & belongs into single quotes",
    ),
    ("undefined alias", "a text that begins with * belongs into single quotes"),
    ("could not determine a constructor", "a text that begins with ! belongs into single quotes"),
    ("could not find expected ':'", "every line is `key: value`; a bracket may not be closed"),
    ("expected <block end>", "check the indentation: keys of one section begin in one column"),
    ("expected ',' or", "a bracket is not closed"),
    ("<stream end>", "a bracket or a quote is not closed"),
    ("end of stream", "a bracket or a quote is not closed"),
    ("expected a single document", "a file holds one run: delete the line `---` and what follows"),
    ("expected '<document start>'", "every line is `key: value`; check quotes and brackets"),
)
_TOML_SECTION = re.compile(r"\[{1,2}[\w.\"' -]+\]{1,2}\s*(#.*)?")
_ASSIGNMENT = re.compile(r"[\w.\"'-]+\s*=(?!=)\s*\S.*")
# In YAML's braces a key seldom has quotes, and a text may begin with //.
_JSON = re.compile(r"//|/\*|\{\s*(\"|//|/\*)")
_JSON_COMMENT = re.compile(r"(^|[\s,{\[])(//|/\*)", re.MULTILINE)
_YAML = "the options are YAML: lines of `key: value`, sections indented with blanks"


def advice(problem: str) -> str | None:
    """What to do about one of PyYAML's complaints, None where it says it all."""
    return next((text for part, text in _ADVICE if part in problem), None)


def other_language(text: str) -> str | None:
    """A sentence if the text is TOML, Python or JSON with comments, None if it may be YAML."""
    lines = (line.strip() for line in text.lstrip("\ufeff").splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if _TOML_SECTION.fullmatch(first) or _ASSIGNMENT.fullmatch(first):
        return (
            f"`[section]` and `key = value` are TOML or Python; {_YAML}; "
            "scripts/options/from_neighbours.py rewrites neosr's TOML files"
        )
    if _JSON.match(text.lstrip("\ufeff \t\r\n")) and _JSON_COMMENT.search(text):
        return f"this is JSON with comments; {_YAML}, and a comment begins with #"
    return None
