"""The lock of a run's name: one process, whatever becomes of the folder."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support import ROOT
from traiNNer.engine.lock import claimed, lock_path
from traiNNer.utils.errors import DiskError, OptionsError

CLAIM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from traiNNer.engine.lock import claimed
with claimed(Path(sys.argv[2])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def other_process(root: Path) -> subprocess.Popen[bytes]:
    """A process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(ROOT), str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    return process


def test_the_second_is_told_and_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    root = tmp_path / "experiments" / "run"
    with other_process(root) as other:
        with pytest.raises(OptionsError, match=r"another process trains in .*run; wait.*--name"):
            claimed(root, patience_s=0).__enter__()
        other.kill()
    with claimed(root):
        assert lock_path(root).exists()


def test_a_run_that_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with other_process(root) as other:
        threading.Timer(0.2, other.kill).start()
        # Long enough for any machine: it ends as soon as the other process has ended.
        with claimed(root, patience_s=60):
            assert other.wait() != 0


@pytest.mark.skipif(sys.platform == "win32", reason="there an open folder cannot be moved")
def test_it_stays_when_the_run_is_moved_aside(tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    with other_process(root) as other:
        root.rename(tmp_path / "run_archived")
        root.mkdir()
        with pytest.raises(OptionsError, match="another process trains"):
            claimed(root, patience_s=0).__enter__()
        other.kill()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    root = tmp_path / "new" / "run"
    with claimed(root):
        pass
    assert list(tmp_path.iterdir()) == []
    root.mkdir(parents=True)
    with claimed(root):
        pass
    assert [path.name for path in root.parent.iterdir()] == ["run"]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(DiskError, match=r"path\.experiments_root"):
        claimed(tmp_path / "file" / "run").__enter__()
