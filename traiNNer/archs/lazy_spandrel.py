"""Imports one of spandrel's architectures without the other forty.

`import spandrel` imports every architecture, and through torchvision torch's compiler: 1.4 of the
2.8 s that a start took. Here the package object is put in place without running its `__init__`;
whoever asks it for a name that only the `__init__` defines, such as `ModelLoader`, has it run then.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any


def import_module(name: str) -> ModuleType:
    """Import the module `name`, inside spandrel or one that imports from spandrel's
    architectures.
    """
    _defer_spandrel()
    return importlib.import_module(name)


def _defer_spandrel() -> None:
    if "spandrel" in sys.modules:
        return
    spec = importlib.util.find_spec("spandrel")
    if spec is None or spec.loader is None:
        # The import that follows says what is wrong.
        return
    # The package object is what `import spandrel.architectures.X` looks for in sys.modules; that
    # its `__init__` did not run is not noticed.
    loader = spec.loader
    package = importlib.util.module_from_spec(spec)

    def run_init(name: str) -> Any:
        # A probe of the import system or of a debugger, which would run it for nothing.
        if name.startswith("__"):
            raise AttributeError(f"module 'spandrel' has no attribute '{name}'")
        # First, or a name that the `__init__` does not define would run it for ever.
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, name)

    package.__dict__["__getattr__"] = run_init
    sys.modules["spandrel"] = package
