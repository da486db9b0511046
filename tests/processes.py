"""Python code in a process of its own, where it may change modules without harm to other tests."""

from __future__ import annotations

import subprocess
import sys

from tests.support import ROOT


def run_without_av(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own in which PyAV cannot be imported."""
    return run_python("import sys; sys.modules['av'] = None\n" + code)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, from the present folder, with the project at
    hand.
    """
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    command = [sys.executable, "-c", path + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
