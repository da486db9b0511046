from __future__ import annotations

from pathlib import Path

import pytest

from traiNNer.data.scan import as_roots
from traiNNer.options.schema import PathOptions
from traiNNer.utils.files import at_home


def test_the_home_and_variables_mean_the_same_in_every_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("DISK", "/mnt/large")
    for name, expected in [
        ("~/runs", "/home/somebody/runs"),
        ("$HOME/runs", "/home/somebody/runs"),
        ("${DISK}/runs", "/mnt/large/runs"),
        ("runs/~x", "runs/~x"),
        ("$NOT_SET/runs", "$NOT_SET/runs"),
    ]:
        assert at_home(name) == expected
        assert as_roots(name) == [Path(expected)]
        paths = PathOptions(experiments_root=name, pretrain_network_g=name, results_root=name)
        assert paths.experiments_root == paths.pretrain_network_g == paths.results_root == expected


def test_the_home_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="no-such-user"):
        PathOptions(experiments_root="~no-such-user/runs")
