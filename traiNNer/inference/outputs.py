"""Where the results of a scene go: a folder of frames, or a video file with the sound of its
source.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from traiNNer.data import SceneStream
from traiNNer.inference.colors import LostColors
from traiNNer.options.schema import TestValOptions
from traiNNer.utils.errors import DataError, DiskError
from traiNNer.utils.images import Colors
from traiNNer.utils.names import file_key, visible
from traiNNer.utils.text import plural
from traiNNer.video.colors import Frame
from traiNNer.video.copying import CopyingWriter, VideoSource
from traiNNer.video.writing import Encoding, VideoWriter, staging, write_frame

log = logging.getLogger(__name__)
# Names in a message: enough to know what they are.
_MOST_EXAMPLES = 5

# Takes the number of a frame and its pixels, in order.
Put = Callable[[int, Frame], None]


def prepare_folder(folder: Path, names: Collection[str]) -> None:
    """Make the folder of a set's results, and say what an earlier run left in it: files of the same
    names are replaced, and the others stay.

    Args:
        folder: results_root/<name>/<set>.
        names: what is going to be written into it, with suffixes; folders of frames without.

    Raises:
        DiskError: if nothing can be written into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        present = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    except OSError as error:
        raise DiskError(
            f"cannot make the folder of the results {folder}: {error.strerror or error}; choose "
            "another path.results_root"
        ) from error
    if not os.access(folder, os.W_OK):
        raise DiskError(f"cannot write into {folder}; choose another path.results_root")
    keys = {file_key(name) for name in names}
    others = [name for name in present if file_key(name) not in keys]
    replaced = len(present) - len(others)
    if replaced:
        log.info("%s: results of an earlier run are replaced: %d", folder, replaced)
    if others:
        more = ", ..." if len(others) > _MOST_EXAMPLES else ""
        log.warning(
            "%s holds what this run does not write, and it stays there: %s%s (%s; of an earlier "
            "run? delete it, or choose another --name)",
            folder,
            ", ".join(map(visible, others[:_MOST_EXAMPLES])),
            more,
            plural(len(others), "name"),
        )


def say_new_names(what: str, sources: Sequence[Path], names: Sequence[str]) -> None:
    """Say which results are not called as their sources, because the name is in use or too long.

    Args:
        what: the dataset.
        sources: the files.
        names: of the results, with a suffix.
    """
    for source, name in zip(sources, names, strict=True):
        if Path(name).stem != source.stem:
            log.info("%s: the result of %s is called %s", what, source, visible(name))


def becomes_video(stream: SceneStream, options: TestValOptions) -> bool:
    """Whether the results of a scene are a video file, and not a folder of frames."""
    return options.save_as == "video" or (options.save_as == "auto" and stream.is_video)


@contextmanager
def open_output(
    folder: Path, name: str, stream: SceneStream, scale: int, options: TestValOptions
) -> Iterator[Put | None]:
    """Where the results of a scene go: whole, or not at all if the context ends with an error. None
    where nothing is to be saved.
    """
    if not options.save_img:
        yield None
    elif not becomes_video(stream, options):
        with _frames_into(folder / name, stream) as put:
            yield put
    elif stream.scene.video is None:
        # A folder of frames has no timing and no sound: the options say how fast it is.
        path = folder / f"{name}.mp4"
        size = _prepare(path, stream, scale)
        rate = _television_rate(options.video_fps)
        with VideoWriter(path, size, rate, _encoding(path, size, options)) as writer:
            yield lambda _, rgb: writer.write(rgb)
    else:
        with ExitStack() as stack:
            source = stack.enter_context(closing(VideoSource(stream.scene.video)))
            path = folder / f"{name}{source.choose_suffix()}"
            size = _prepare(path, stream, scale)
            encoding = replace(_encoding(path, size, options), colors=stream.scene.video.colors)
            copier = stack.enter_context(CopyingWriter(source, path, size, encoding))
            yield lambda number, rgb: copier.write(rgb, source.time(number))


def _prepare(path: Path, stream: SceneStream, scale: int) -> tuple[int, int]:
    """Width and height of the results, which may go to `path`."""
    _require_other(path, stream)
    return stream.width * scale, stream.height * scale


@contextmanager
def _frames_into(folder: Path, stream: SceneStream) -> Iterator[Put]:
    _require_other(folder, stream)
    with staging(folder) as place:
        staged = place / folder.name
        lost = LostColors(folder.name)

        def put(number: int, rgb: Frame) -> None:
            path = staged / f"{stream.frame_name(number)}.png"
            # A film's frames are converted when they are read.
            colors = (
                Colors() if stream.is_video else lost.read(Path(stream.scene.frame_path(number)))
            )
            write_frame(path, rgb, colors)

        yield put
        lost.warn()
        try:
            if not folder.exists():
                staged.rename(folder)
                return
            # File by file: the folder may hold the results of other scenes, in folders below it.
            for file in staged.iterdir():
                file.replace(folder / file.name)
        except OSError as error:
            raise DiskError(f"cannot write {folder}: {error.strerror or error}") from error


def _require_other(path: Path, stream: SceneStream) -> None:
    if path.resolve() == stream.path.resolve():
        raise DataError(
            f"{path}: the result would replace the scene it is made of; choose another "
            "path.results_root"
        )


def _television_rate(fps: float) -> Fraction:
    """23.976, 29.97 and 59.94 mean 24000/1001, 30000/1001 and 60000/1001; all else means itself."""
    television = Fraction(round(fps) * 1000, 1001)
    # A thousandth: people round the rates of television to two or three digits.
    return television if abs(television - Fraction(fps)) < Fraction(1, 1000) else Fraction(str(fps))


def _encoding(path: Path, size: tuple[int, int], options: TestValOptions) -> Encoding:
    odd = any(side % 2 for side in size)
    if odd:
        # 4:2:0 has one colour for two columns and rows. Padding would change the picture's size.
        log.warning(
            "%s: %dx%d is odd, so the colours keep their full resolution (yuv444p), which some "
            "players do not take",
            path, *size,
        )  # fmt: skip
    pixel_format = "yuv444p" if odd else "yuv420p"
    # All cores: unlike training data, a result need not be the same on every machine.
    return Encoding(
        options.video_codec, crf=options.video_crf, pixel_format=pixel_format, threads=0
    )
