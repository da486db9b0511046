"""Names of files in their four uses: which file is meant, what a result is called, what a person
sees, and which names a file system takes for one.
"""

from __future__ import annotations

import hashlib
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

# Of one name, in the file systems of Linux, macOS and Windows (there it counts letters, so that
# names of many bytes could be longer).
LONGEST_NAME_BYTES = 255
# Digits of a hash that tells shortened names from each other: 2^32 of them.
_HASH_DIGITS = 8
# Of the name that a temporary file stands for; eCryptfs takes 143 bytes in all.
_TEMPORARY_BYTES = 100
# `_` and the number of a name that is in use: up to a million of one name.
_NUMBER_BYTES = 7
# Control characters, halves of characters (bytes that are no text), ends of lines and of
# paragraphs: a terminal would act upon them, or cannot show them.
_UNSEEN = frozenset(("Cc", "Cs", "Zl", "Zp"))
# They turn the direction of all that follows.
_TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SHORT_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def take_names_for_utf8() -> None:
    """Begin the program anew, where Python takes the names of files for ASCII: in a plain locale
    with PYTHONUTF8=0 it could open none with an umlaut that the options name.
    """
    if sys.getfilesystemencoding() == "ascii" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 (itself)


def visible(text: str, keep: str = "") -> str:
    """A name on one line for people: what no terminal shows is escaped, for example `\\n` and
    `\\xe9` for a byte that is no UTF-8.

    Args:
        text: any text.
        keep: characters that stay as they are, for example the ends of lines of a message.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep else _visible_character(c) for c in text)


def _visible_character(c: str) -> str:
    if unicodedata.category(c) not in _UNSEEN and c not in _TURNING:
        return c
    code = ord(c)
    # Python's stand-ins for bytes that are no text in the encoding of the system.
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    if code < 0x100:
        return _SHORT_ESCAPES.get(c, f"\\x{code:02x}")
    return f"\\u{code:04x}"


def file_key(name: str) -> str:
    """The same for all names that some file system takes for one: upper and lower case, composed
    and decomposed letters, dots and blanks at the end.
    """
    parts = unicodedata.normalize("NFC", name).casefold().split("/")
    # Case folding may take letters apart again.
    return "/".join(unicodedata.normalize("NFC", part.rstrip(" .") or part) for part in parts)


def pairing_key(name: str) -> str:
    """The same for the two Unicode forms of a name: files that went through a Mac have the
    decomposed one.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def size_in_bytes(name: str) -> int:
    """Of a name as a file system counts it."""
    return len(_bytes(name))


def _bytes(name: str) -> bytes:
    # Not os.fsencode: where the system's encoding is ASCII, names from options may have no bytes.
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Windows allows any halves of characters.
        return name.encode("utf-8", "surrogatepass")


def same_everywhere(name: str) -> str:
    """A name as Python has it where names are UTF-8, to be kept in a file: in other locales it has
    each byte beyond ASCII as a character of its own.
    """
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return name


def cut(name: str, size: int) -> str:
    """The beginning of a name, of at most so many bytes and of whole characters."""
    if size_in_bytes(name) <= size:
        return name
    # A character has one byte at least.
    name = name[:size]
    while size_in_bytes(name) > size:
        name = name[:-1]
    # An accent that follows its letter would be lost alone; a lone joiner shows as nothing.
    return name.rstrip("\u200d\ufe0f")


def shortened(stem: str, room: int, longest: int = LONGEST_NAME_BYTES) -> str:
    """A stem that leaves `room` bytes of the longest name for what comes behind it. Stems that
    differ stay different.
    """
    allowed = longest - room
    if size_in_bytes(stem) <= allowed:
        return stem
    digits = hashlib.blake2b(_bytes(stem), digest_size=_HASH_DIGITS // 2).hexdigest()
    return f"{cut(stem, allowed - _HASH_DIGITS - 1)}~{digits}"


def temporary_prefix(name: str) -> str:
    """The beginning of a hidden name beside `name`, with room behind it for a suffix."""
    return f".{shortened(name, 0, _TEMPORARY_BYTES)}"


def distinct(
    names: Iterable[str], key: Callable[[str], str] = file_key, first: Sequence[bool] = ()
) -> list[str]:
    """The names, with a number behind those that others have taken: `a`, `a_2`, `a_3`.

    A number never makes a name that another one has by itself.

    Args:
        names: in order.
        key: the same for names that count as equal.
        first: which of the names keep theirs before all others do; left out: none.
    """
    wanted = list(names)
    natural = {key(name) for name in wanted}
    places = sorted(range(len(wanted)), key=lambda place: not (first and first[place]))
    taken: set[str] = set()
    # Where the search for a free number goes on: thousands may have one name.
    numbers: dict[str, int] = {}
    result = list(wanted)
    for place in places:
        own = key(wanted[place])
        if own in taken:
            number = numbers.get(own, 1) + 1
            while key(f"{wanted[place]}_{number}") in taken | natural:
                number += 1
            numbers[own] = number
            result[place] = f"{wanted[place]}_{number}"
        taken.add(key(result[place]))
    return result


def result_stems(inputs: Sequence[str], suffix: str, room: int = 0) -> list[str]:
    """What the results of files are called, without their suffix: as their inputs, and no two
    alike. Where `a.jpg` and `a.png` become PNG, `a.png` keeps its name.

    Args:
        inputs: file names with their suffixes.
        suffix: of the results.
        room: bytes to be left free besides, for what is put before the suffix.
    """
    stems = [os.path.splitext(name)[0] for name in inputs]  # noqa: PTH122 - names, not paths
    counts = Counter(map(file_key, stems))
    short: list[str] = []
    for stem in stems:
        needed = len(suffix) + room
        if counts[file_key(stem)] > 1:
            needed += _NUMBER_BYTES
        short.append(shortened(stem, needed))
    keeps = [name.lower().endswith(suffix) for name in inputs]
    return distinct(short, first=keeps)
