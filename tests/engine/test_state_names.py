"""States are told by their number, whatever else lies beside them."""

from __future__ import annotations

from pathlib import Path

from traiNNer.engine.folders import RunFolders, saved_states, set_aside_later_states


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
