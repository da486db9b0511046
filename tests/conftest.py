"""What every test needs: no traces outside its own folder, and a core of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Each has torch in its memory, and beyond four of them the longest test decides.
MOST_PROCESSES = 4


def pytest_addoption(parser: pytest.Parser) -> None:
    """For tests that draw at random."""
    parser.addoption(
        "--draws", type=int, default=300, help="draws of each test that tries many (300)"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs in as many processes as there are cores; parts of it, as one runs them
    while working, in this one, which is sooner.
    """
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    is_plain = not config.getoption("usepdb") and not config.option.collectonly
    is_undecided = getattr(config.option, "numprocesses", 0) is None
    # A worker calls this too, and must not start others.
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    if is_whole and is_plain and is_undecided and not is_worker:
        config.option.numprocesses = min(MOST_PROCESSES, os.cpu_count() or 1)
        # The tests' networks are tiny, and the processes share the cores.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """Signals mean what they mean at a terminal, also where `nohup` or a shell's background has
    them ignored: the tests send them, and programs that are started inherit how they are taken.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs, caches and results go below the test's own folder; returned is that of the caches."""
    home = tmp_path / "cache"
    monkeypatch.chdir(tmp_path)
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(home))
    return home


@pytest.fixture
def draws(request: pytest.FixtureRequest) -> int:
    """How many a test that draws at random is to try."""
    return request.config.getoption("--draws")


@pytest.fixture(autouse=True)
def _same_torch_after() -> Iterator[None]:
    """torch's global switches do not leak from one test into the next."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(autouse=True)
def _same_priority_after() -> Iterator[None]:
    """A test that is left one of real time starves all others, those of other processes too."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy = os.sched_getscheduler(0)
    parameters = os.sched_getparam(0)
    yield
    left = os.sched_getscheduler(0)
    os.sched_setscheduler(0, policy, parameters)
    assert left == policy, "the test changed how its process is scheduled"
