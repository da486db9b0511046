"""States are told by their number, whatever else lies beside them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from traiNNer.engine.folders import (
    RunFolders,
    archive_old_run,
    saved_states,
    set_aside_later_states,
)


def test_the_newest_state_is_that_of_the_highest_number(tmp_path: Path) -> None:
    folders = RunFolders(tmp_path / "run", tmp_path / "tb")
    folders.states.mkdir(parents=True)
    assert saved_states(folders) == []
    for name in ("\u00b2\u00b3", "9", "10", "best", "1" * 200):
        (folders.states / f"{name}.state").touch()
    assert saved_states(folders)[-1] == folders.states / "10.state"
    notes = set_aside_later_states(folders, folders.states / "9.state")
    assert len(notes) == 1
    assert saved_states(folders) == [folders.states / "9.state"]


def test_a_link_to_a_large_disk_stays_one(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.mkdir()
    (large / "old.txt").write_text("former")
    folders = RunFolders(tmp_path / "experiments/run", tmp_path / "tb/run")
    folders.root.parent.mkdir()
    folders.root.symlink_to(large)
    (note,) = archive_old_run(folders, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), [])
    assert folders.root.is_symlink()
    assert list(folders.root.iterdir()) == []
    former = tmp_path / "large_archived_20260102_030405"
    assert (former / "old.txt").read_text() == "former"
    assert str(former) in note
