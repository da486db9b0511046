"""A checksum inside a weights file, by which a flipped bit is noticed.

It stands in the metadata of a safetensors file, so that every other program reads the file as well.
Neither safetensors nor torch look whether the bytes are still those that were written.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

# Key of the metadata. The sum is that of the whole file with as many zeros in the sum's own place.
SEAL = "sha256"
_DIGITS = 64
BLANK = "0" * _DIGITS
_SEALED = re.compile(rb'"%s":"([0-9a-f]{%d})"' % (SEAL.encode(), _DIGITS))
# The header of a safetensors file begins behind its length, a number of 8 bytes.
_LENGTH_BYTES = 8
# Read at once: more than a few MiB are not faster.
_BLOCK = 4 * 2**20


def sealed(content: bytes) -> tuple[bytes, str]:
    """A safetensors file whose metadata hold `SEAL: BLANK`, with its checksum there; and the
    checksum.
    """
    match = _SEALED.search(content)
    assert match is not None
    assert match[1] == BLANK.encode()
    digest = hashlib.sha256(content).hexdigest()
    return b"".join((content[: match.start(1)], digest.encode(), content[match.end(1) :])), digest


def read_seal(path: Path) -> tuple[str | None, bool]:
    """The checksum that a safetensors file holds, None where it has none; and whether it is right.

    Raises:
        OSError: if the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_LENGTH_BYTES)
        length = int.from_bytes(start, "little")
        if length > size:
            return None, False
        header = file.read(length)
        match = _SEALED.search(header)
        if match is None:
            return None, False
        digest = hashlib.sha256(start)
        digest.update(header[: match.start(1)])
        digest.update(BLANK.encode())
        digest.update(header[match.end(1) :])
        while block := file.read(_BLOCK):
            digest.update(block)
    said = match[1].decode()
    return said, said == digest.hexdigest()
