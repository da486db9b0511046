"""Reading the frames of scenes. What is open stays in the process that opened it."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from traiNNer.utils.files import FileStamp
from traiNNer.utils.images import Pixels, read_image
from traiNNer.utils.pixel_store import PixelStore, StoredPicture
from traiNNer.video.pyav import import_av
from traiNNer.video.reader import VideoReader
from traiNNer.video.scenes import Scene

# Readers that a forked process got from its parent. Closing them there could touch what the parent
# still uses, and so does freeing them: they are kept for as long as the process lives.
_INHERITED: list[object] = []


class FrameReader(Protocol):
    """Frames of one scene by number."""

    def read(self, number: int) -> Pixels:
        """(H, W, 3), uint8 or uint16 RGB."""
        ...

    def close(self) -> None: ...


class FolderReader:
    """Frames of a folder by number; the last `keep` of them are kept."""

    def __init__(self, scene: Scene, keep: int) -> None:
        self._scene = scene
        self._keep = keep
        self._recent: OrderedDict[int, Pixels] = OrderedDict()

    def read(self, number: int) -> Pixels:
        """Decode a frame.

        Raises:
            DataError: if the file cannot be read.
        """
        pixels = self._recent.get(number)
        if pixels is None:
            pixels = read_image(self._scene.path / self._scene.files[number])
        self._recent[number] = pixels
        self._recent.move_to_end(number)
        while len(self._recent) > self._keep:
            self._recent.popitem(last=False)
        return pixels

    def close(self) -> None:
        """Forget the kept frames."""
        self._recent.clear()


class StoredFrames:
    """Frames of a scene from a store, and decoded where it has no entry of them."""

    def __init__(self, scene: Scene, reader: FrameReader, store: PixelStore) -> None:
        self._scene = scene
        self._reader = reader
        self._store = store

    def read(self, number: int) -> Pixels:
        """A frame.

        Raises:
            DataError: if it has to be decoded and cannot be.
        """
        picture = _stored_frame(self._scene, number)
        if picture is None:
            return self._reader.read(number)
        return self._store.read(picture, lambda: self._reader.read(number))

    def close(self) -> None:
        """Close what decodes."""
        self._reader.close()


def stored_frames(scene: Scene) -> Iterator[StoredPicture]:
    """What the frames of a scene are called in a store."""
    pictures = (_stored_frame(scene, number) for number in range(len(scene)))
    return (picture for picture in pictures if picture is not None)


def _stored_frame(scene: Scene, number: int) -> StoredPicture | None:
    """None of a file that is gone, which reading tells better."""
    path = Path(scene.frame_path(number)).absolute()
    decoder = ""
    if scene.video is not None:
        stamp = FileStamp(*scene.video.stamp)
        decoder = f"PyAV {import_av().__version__}"
    else:
        try:
            stamp = FileStamp.of(path.stat())
        except OSError:
            return None
    header = scene.headers[number]
    return StoredPicture.of(str(path), stamp, (header.height, header.width), header.bits, decoder)


def open_scene(scene: Scene, keep: int = 1, threads: int = 1) -> FrameReader:
    """A reader of a scene's frames.

    Args:
        scene: which.
        keep: decoded frames that are kept for the next requests.
        threads: of a video's decoder, 0 for as many as there are cores.
    """
    if scene.video is None:
        return FolderReader(scene, keep)
    return VideoReader(scene.video, keep, threads)


class ReaderPool:
    """The readers that were used last, by scene. A copy in another process begins empty, forked or
    spawned.

    Args:
        keep: decoded frames that each reader keeps.
        most: readers that are open at a time; 4 are two pairs of scenes.

    Attributes:
        store: keeps the frames that were decoded; None decodes each time.
    """

    def __init__(self, keep: int = 1, most: int = 4) -> None:
        self._keep = keep
        self._most = most
        self.store: PixelStore | None = None
        self._pid = os.getpid()
        self._readers: OrderedDict[Scene, FrameReader] = OrderedDict()

    def reader(self, scene: Scene) -> FrameReader:
        """The reader of a scene, opened if it is not."""
        if self._pid != os.getpid():
            _INHERITED.append(self._readers)
            self._readers = OrderedDict()
            self._pid = os.getpid()
        if scene not in self._readers:
            while len(self._readers) >= self._most:
                self._readers.popitem(last=False)[1].close()
            reader = open_scene(scene, self._keep)
            if self.store is not None:
                reader = StoredFrames(scene, reader, self.store)
            self._readers[scene] = reader
        self._readers.move_to_end(scene)
        return self._readers[scene]

    # Open files cannot be pickled, and a spawned worker needs none of them.
    def __getstate__(self) -> dict[str, Any]:
        return {"keep": self._keep, "most": self._most, "store": self.store}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["keep"], state["most"])
        self.store = state["store"]
