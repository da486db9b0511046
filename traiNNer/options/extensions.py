"""Files of a user's own that register losses, metrics, orders, recipes, parts and the like."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from traiNNer.options.yaml_reader import RawOptions
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.files import at_home

_KEY = "extensions"
_imported: set[str] = set()


def load_extensions(raw: RawOptions) -> None:
    """Import the files that `extensions` names, in their order. The names become paths that serve
    from where the command runs, whichever options file they were relative to.

    Raises:
        OptionsError: if a file is not there or cannot be imported.
    """
    names = raw.values.get(_KEY)
    if not isinstance(names, list):
        return  # left out, or for the schema to refuse
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            continue
        position = raw.position((_KEY, number))
        try:
            path = _found(name, Path(position.file).parent)
            import_file(path)
        except (OptionsError, ValueError) as error:
            raise OptionsError(f"{position}: {_KEY}.{number} = {name}: {error}") from error
        names[number] = str(path)


def _found(name: str, options_folder: Path) -> Path:
    """The file beside the options that name it, else from where the command runs."""
    path = Path(at_home(name))
    for candidate in (options_folder / path, path):
        if candidate.is_file():
            return candidate
    kind = "a folder; name its files" if path.is_dir() else "there is no such file"
    raise OptionsError(kind)


def import_file(path: Path) -> ModuleType:
    """Import a Python file under its own name; once, however often it is asked for.

    Its folder comes to the end of `sys.path`, so that processes which read images find it, and so
    that extensions can import each other.

    Raises:
        OptionsError: if it is no Python file, its name is taken, or it fails.
    """
    path = path.resolve()
    name = path.stem
    if path.suffix != ".py" or not name.isidentifier():
        raise OptionsError("expected a Python file whose name has letters, digits and _ only")
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    known = importlib.util.find_spec(name) if loaded is None else loaded.__spec__
    if known is not None and Path(known.origin or "").resolve() != path:
        raise OptionsError(f"there is another module of the name {name}; rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _imported.add(str(path))
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    # Whatever a file of a user's own raises; Ctrl-C goes on its way.
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise OptionsError(_complaint(error, path)) from error
    return module


def origin(error: BaseException) -> str | None:
    """The place in an extension from which an error comes; None if it does not."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [
        f"{frame.filename}, line {frame.lineno}" for frame in frames if frame.filename in _imported
    ]
    return places[-1] if places else None


def _complaint(error: BaseException, path: Path) -> str:
    """What went wrong, and in which line of the file."""
    lines = list(_lines(error, path))
    where = f"line {lines[-1]}: " if lines else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{where}{type(error).__name__}: {text}"


def _lines(error: BaseException, path: Path) -> Iterator[int]:
    """The numbers of the file's lines on the way to the error."""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path) and frame.lineno is not None:
            yield frame.lineno
    if isinstance(error, SyntaxError) and error.filename == str(path) and error.lineno is not None:
        yield error.lineno
