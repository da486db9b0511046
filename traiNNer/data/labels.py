"""Which classes pictures have: by the folders they lie in, or by a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from traiNNer.data.scan import ScannedImage
from traiNNer.utils.errors import DataError
from traiNNer.utils.problems import Problems

# Between the classes of a picture that has several, in one cell of the CSV file.
_SEPARATORS = "|;"
# A class that a column says of: its cells, for and against.
_YES = ("1", "true", "yes")
_NO = ("0", "false", "no", "")


@dataclass(frozen=True)
class LabelledImage:
    """A picture and the numbers of its classes, which rise."""

    image: ScannedImage
    classes: tuple[int, ...]

    @property
    def images(self) -> tuple[ScannedImage, ...]:
        """The picture's file."""
        return (self.image,)


def labels_by_folder(
    images: Iterable[ScannedImage], names: Sequence[str] | None, problems: Problems
) -> tuple[list[LabelledImage], list[str]]:
    """Each picture with the class of the first folder of its path, and the names of the classes.

    Args:
        images: below folders of classes.
        names: of the classes, in order; None takes the folders' names, sorted.
        problems: gets the pictures that lie in no folder of a class.
    """
    by_folder: dict[str, list[ScannedImage]] = {}
    for image in images:
        folder, slash, _ = image.name.partition("/")
        if slash:
            by_folder.setdefault(folder, []).append(image)
        else:
            kind = "picture that lies in no folder of a class, as <class>/<picture>"
            problems.add(kind, str(image.path))
    classes = list(names) if names is not None else sorted(by_folder)
    labelled: list[LabelledImage] = []
    for folder, members in by_folder.items():
        if folder in classes:
            number = classes.index(folder)
            labelled += [LabelledImage(image, (number,)) for image in members]
        else:
            kind = f"folder that is none of the classes ({', '.join(classes)})"
            problems.add(kind, str(members[0].root / folder))
    return labelled, classes


def labels_by_file(
    images: Iterable[ScannedImage], path: Path, names: Sequence[str] | None, problems: Problems
) -> tuple[list[LabelledImage], list[str]]:
    """The pictures that a CSV file names with their classes, and the names of the classes.

    The file has a line of headings. The first column is a path below the folder of the pictures.
    With one column more, that holds the class, or several between `|` or `;`; with several more,
    each is a class, and its cells are 0 or 1.

    Args:
        images: by their paths.
        path: of the CSV file.
        names: of the classes, in order; None takes those of the file, sorted, or its columns.
        problems: gets what is wrong with lines.

    Raises:
        DataError: if the file cannot be read, or has no classes.
    """
    heading, rows = _read(path)
    by_column = len(heading) > 2
    found = [
        (number, row[0].strip(), _cells(heading, row, f"{path}, line {number}", problems))
        for number, row in rows
    ]
    present = (
        list(heading[1:]) if by_column else sorted({one for _, _, own in found for one in own})
    )
    classes = list(names) if names is not None else present
    by_name = {image.name: image for image in images}
    labelled: list[LabelledImage] = []
    taken: set[str] = set()
    for number, name, own in found:
        where = f"{path}, line {number}: {name}"
        unknown = [one for one in own if one not in classes]
        if name not in by_name:
            problems.add("picture of the file of labels that is not there", where)
        elif name in taken:
            problems.add("picture that the file of labels names twice", where)
        elif unknown:
            kind = f"class that is none of {', '.join(classes)}"
            problems.add(kind, f"{where}: {', '.join(unknown)}")
        else:
            taken.add(name)
            numbers = tuple(sorted(classes.index(one) for one in own))
            labelled.append(LabelledImage(by_name[name], numbers))
    return labelled, classes


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The headings, and the other lines by number."""
    try:
        # A mark at the beginning, as spreadsheets write it, is no part of a heading.
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
    except FileNotFoundError as error:
        raise DataError(f"labels: {path} does not exist") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"labels: {path} cannot be read as CSV: {error}") from error
    rows = [(number, line) for number, line in enumerate(lines, 1) if any(map(str.strip, line))]
    if len(rows) < 2 or len(rows[0][1]) < 2:
        raise DataError(
            f"labels: {path} needs a line of headings (file,label) and a line for each picture"
        )
    heading = [cell.strip() for cell in rows[0][1]]
    return heading, rows[1:]


def _cells(heading: Sequence[str], row: Sequence[str], where: str, problems: Problems) -> list[str]:
    """The names of the classes of a line."""
    cells = [cell.strip() for cell in row[1:]]
    if len(row) != len(heading):
        problems.add("line of the file of labels with too few or too many cells", where)
        return []
    if len(heading) == 2:
        text = cells[0]
        for separator in _SEPARATORS:
            text = text.replace(separator, "\n")
        return list(dict.fromkeys(one.strip() for one in text.split("\n") if one.strip()))
    own: list[str] = []
    for name, cell in zip(heading[1:], cells, strict=True):
        if cell.lower() in _YES:
            own.append(name)
        elif cell.lower() not in _NO:
            problems.add("cell of the file of labels that is neither 0 nor 1", f"{where}: {cell}")
    return own
