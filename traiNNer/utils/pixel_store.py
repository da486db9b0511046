"""Decoded pictures in files of their own, from which crops are read without decoding anything.

A folder of entries, one for each picture: a header, then the pixels as they are in memory. What was
read before is read again through a memory map, of which only the rows of a crop are touched, so
that the system's page cache is the only copy in memory, whatever processes and runs use it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import mmap
import multiprocessing
import os
import queue
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import PIL
import simplejpeg
import torch

from traiNNer.utils.errors import DataError
from traiNNer.utils.files import FileStamp
from traiNNer.utils.images import Pixels

log = logging.getLogger(__name__)

_MAGIC = b"traiNNer"
# Part of each key. The number is to be raised when a decoder of ours gives other pixels.
_DECODERS = " ".join(("1", *(module.__version__ for module in (cv2, imagecodecs, PIL, simplejpeg))))
# Magic, version, height, width, bytes of a value, checksum of the pixels, size and time of the
# file; each of a fixed size, little endian.
_HEADER = struct.Struct("<8s5I2q")
_VERSION = 1
# Pixels begin here, with room for what a header may get.
_OFFSET = 128
_KEY_BYTES = 16
_SUFFIX = ".pixels"
_UNFINISHED = ".tmp"
# Pictures that wait for a core: what waits longer is decoded at its next visit.
_MOST_WAITING = 4096
# Python's own is ten times as much, and a crop takes little more than that.
_SWITCH_S = 5e-4
# Seconds after which what was begun is not going to be finished: an entry is written within one.
_STALE_S = 600.0


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """What a picture is known by.

    Attributes:
        key: of the file's path, of the frame's number in a film, and of the decoder.
        stamp: of the file when its header was read.
        height: in pixels.
        width: in pixels.
        nbytes: that its pixels take, (H, W, 3) of uint8 or uint16.
    """

    key: bytes
    stamp: FileStamp
    height: int
    width: int
    nbytes: int

    @classmethod
    def of(
        cls, path: str, stamp: FileStamp, size: tuple[int, int], bits: int, decoder: str = ""
    ) -> StoredPicture:
        """The picture of a file.

        Args:
            path: absolute; of a frame of a film, with its number.
            stamp: of the file.
            size: height and width.
            bits: of a value, up to 16.
            decoder: and its version, where it is none of images.
        """
        name = f"{_DECODERS}\0{decoder}\0{path}".encode("utf-8", "surrogateescape")
        key = hashlib.blake2b(name, digest_size=_KEY_BYTES).digest()
        height, width = size
        return cls(key, stamp, height, width, height * width * 3 * (1 if bits <= 8 else 2))


class _Backlog:
    """Work that is done when a core has nothing else to do, in a thread of this process."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[bytes, Callable[[], object]]] = queue.SimpleQueue()
        self._waiting: set[bytes] = set()
        self._pid = 0

    def add(self, key: bytes, work: Callable[[], object]) -> None:
        """Have `work` done, unless the same is waiting or too much is."""
        if self._pid != os.getpid():
            # A forked process has no thread of its parent, and may have got its queue locked.
            self._pid = os.getpid()
            self._work = queue.SimpleQueue()
            self._waiting = set()
            threading.Thread(target=self._run, name="pixel store", daemon=True).start()
        if key not in self._waiting and len(self._waiting) < _MOST_WAITING:
            self._waiting.add(key)
            self._work.put((key, work))

    def _run(self) -> None:
        work = self._work
        waiting = self._waiting
        # The process waits for this thread's steps in Python no longer than that.
        sys.setswitchinterval(_SWITCH_S)
        if sys.platform == "linux":
            # There a thread has a priority of its own; 19 is the last one.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        while True:
            key, do = work.get()
            # Whatever it is: whoever reads the picture next is told.
            with contextlib.suppress(Exception):
                do()
            waiting.discard(key)

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()


class PixelStore:
    """Reads pictures from their entries, and makes an entry of what has none yet.

    An entry is written under another name and then renamed, so it is whole or absent; its pixels
    are compared with their checksum when a process first reads them. Whatever is wrong with an
    entry, or with the disk: the picture is decoded. It can be pickled.

    Args:
        folder: of the entries; several runs may share it.

    Attributes:
        folder: of the entries.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Text, because a Path takes longer to join than a picture to open.
        self._root = str(folder)
        # The largest key that is kept: a share of all pictures that needs no list of them.
        self._last_key = b"\xff" * _KEY_BYTES
        self._verified: set[bytes] = set()
        self._writes = True
        # Of all processes that read: the one that trains decides. Without shared memory they wait
        # for ever, and each picture is kept by the thread alone.
        self._waits = torch.ones(1, dtype=torch.uint8)
        with contextlib.suppress(RuntimeError, OSError):
            self._waits.share_memory_()
        self._backlog = _Backlog()

    def read(
        self,
        picture: StoredPicture,
        decode: Callable[[], Pixels],
        decode_part: Callable[[], Pixels] | None = None,
    ) -> Pixels:
        """The pixels (H, W, 3), read-only where they come from the disk.

        Args:
            picture: what is wanted.
            decode: makes its pixels.
            decode_part: makes what is needed of them, if that is less work. What has no entry then
                gets it later: in a reading process from a thread that takes the time that nobody
                else wants, and everywhere at once after `stop_waiting`.

        Raises:
            DataError: as they raise it.
        """
        if not self.keeps(picture):
            return (decode_part or decode)()
        pixels = self._mapped(picture)
        if pixels is not None:
            return pixels
        if decode_part is not None and self._writes and self._waits.item():
            if multiprocessing.parent_process() is not None:
                self._backlog.add(picture.key, lambda: self._fill(picture, decode))
            return decode_part()
        return self._fill(picture, decode)

    def stop_waiting(self) -> None:
        """Have entries made as soon as a picture is read, in all processes."""
        self._waits.zero_()

    def _fill(self, picture: StoredPicture, decode: Callable[[], Pixels]) -> Pixels:
        pixels = decode()
        if self._writes and pixels.shape == (picture.height, picture.width, 3):
            self._write(picture, pixels)
        return pixels

    def keeps(self, picture: StoredPicture) -> bool:
        """Whether a picture is kept once it was decoded."""
        return picture.key <= self._last_key

    def count(self, pictures: Iterable[StoredPicture]) -> int:
        """How many of these have an entry; what is in it is not looked at."""
        present = {key for key, _ in self._entries()}
        return sum(picture.key in present for picture in pictures)

    def keep_none(self) -> None:
        """Decode whatever is asked for from now on."""
        self._last_key = b""

    def keep_within(self, pictures: Iterable[StoredPicture], nbytes: int) -> int:
        """Keep as many of these pictures as `nbytes` hold, whatever else is in the folder; how
        many.
        """
        held = 0
        kept = 0
        last_key = b""
        for key, size in sorted({picture.key: picture.nbytes for picture in pictures}.items()):
            held += size + _OFFSET
            if held > nbytes:
                break
            last_key = key
            kept += 1
        self._last_key = last_key
        return kept

    def make_room(self, pictures: Iterable[StoredPicture], nbytes: int) -> int:
        """Remove what was left unfinished and, of the entries of other pictures, those that were
        used longest ago, until the folder holds no more than `nbytes` once these are all there.

        Returns:
            The entries that were removed.

        Raises:
            DataError: if the folder cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                file.write(_MAGIC)
        except OSError as error:
            raise DataError(f"{self.folder}: {error.strerror or error}") from error
        own = {picture.key: picture.nbytes + _OFFSET for picture in pictures}
        own = {key: size for key, size in own.items() if key <= self._last_key}
        held = sum(own.values())
        others: list[tuple[float, int, str]] = []
        now = time.time()
        for key, entry in self._entries(unfinished=True):
            with contextlib.suppress(OSError):
                status = entry.stat()
                if not key and now - status.st_mtime > _STALE_S:
                    Path(entry.path).unlink()
                elif key in own:
                    # The time of its last use.
                    os.utime(entry.path)
                elif key:
                    held += status.st_size
                    others.append((status.st_mtime, status.st_size, entry.path))
        removed = 0
        for _, size, path in sorted(others):
            if held <= nbytes:
                break
            with contextlib.suppress(OSError):
                Path(path).unlink()
                held -= size
                removed += 1
        return removed

    def held_bytes(self) -> int:
        """Bytes of all entries in the folder."""
        total = 0
        for _, entry in self._entries():
            with contextlib.suppress(OSError):
                total += entry.stat().st_size
        return total

    def __getstate__(self) -> dict[str, Any]:
        # What one process has verified another one looks at again.
        return {**self.__dict__, "_verified": set()}

    def _path(self, key: bytes) -> str:
        name = key.hex()
        # Folders of a 256th each: file systems and people dislike a million files in one.
        return f"{self._root}{os.sep}{name[:2]}{os.sep}{name[2:]}{_SUFFIX}"

    def _entries(self, *, unfinished: bool = False) -> Iterator[tuple[bytes, os.DirEntry[str]]]:
        """Keys and files; the key of what is unfinished is empty."""
        for number in range(256):
            with contextlib.suppress(OSError), os.scandir(self.folder / f"{number:02x}") as listed:
                for entry in listed:
                    if entry.name.endswith(_SUFFIX):
                        with contextlib.suppress(ValueError):
                            name = f"{number:02x}{entry.name.removesuffix(_SUFFIX)}"
                            yield bytes.fromhex(name), entry
                    elif unfinished and entry.name.endswith(_UNFINISHED):
                        yield b"", entry

    def _mapped(self, picture: StoredPicture) -> Pixels | None:
        """A view of the entry's pixels; None where there is no sound entry of this very file."""
        try:
            with open(self._path(picture.key), "rb", buffering=0) as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # A file of no bytes cannot be mapped, which is a ValueError.
        except (OSError, ValueError):
            return None
        if len(content) < _OFFSET:
            return None
        magic, version, height, width, itemsize, checksum, size, mtime_ns = _HEADER.unpack_from(
            content
        )
        expected = (_MAGIC, _VERSION, picture.height, picture.width, *picture.stamp)
        if (magic, version, height, width, size, mtime_ns) != expected or itemsize not in (1, 2):
            return None
        count = height * width * 3
        if len(content) != _OFFSET + count * itemsize:
            return None
        dtype = np.uint8 if itemsize == 1 else np.uint16
        pixels = np.frombuffer(content, dtype, count, _OFFSET)
        if picture.key not in self._verified:
            if zlib.crc32(pixels.data) != checksum:
                return None
            self._verified.add(picture.key)
        return pixels.reshape(height, width, 3)

    def _write(self, picture: StoredPicture, pixels: Pixels) -> None:
        pixels = np.ascontiguousarray(pixels)
        header = _HEADER.pack(
            _MAGIC,
            _VERSION,
            picture.height,
            picture.width,
            pixels.itemsize,
            zlib.crc32(pixels.data),
            *picture.stamp,
        )
        path = Path(self._path(picture.key))
        temporary: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd, name = tempfile.mkstemp(dir=path.parent, suffix=_UNFINISHED)
            temporary = Path(name)
            # Not flushed to the disk: what a power cut leaves of it does not match its checksum.
            with os.fdopen(fd, "wb", buffering=0) as file:
                _reserve(fd, _OFFSET + pixels.nbytes)
                _write_all(file, header.ljust(_OFFSET, b"\0"))
                _write_all(file, pixels.data.cast("B"))
            temporary.replace(path)
        except OSError as error:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
            # Once, and no more tries: reading goes on as if there were no store.
            self._writes = False
            log.warning(
                "pixels are not kept any further: %s: %s", self.folder, error.strerror or error
            )


def _reserve(fd: int, nbytes: int) -> None:
    """Have the file system find the room at once: on ext4 a picture of 8 MB was written in 0.9 ms
    then, and in 1.5 ms without; and where there is no room, nothing is written for nothing.

    Raises:
        OSError: if there is no room.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(fd, 0, nbytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def _write_all(file: Any, content: bytes | memoryview) -> None:
    """All of it: one call takes 2 GiB at most."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
