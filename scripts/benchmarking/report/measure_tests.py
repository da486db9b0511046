"""The project's own tests that need a GPU; on a CPU a few that need none."""

from __future__ import annotations

import time
from typing import Any

import pytest

from scripts.benchmarking.report.machine import ROOT
from scripts.benchmarking.report.results import Column, Notebook
from scripts.benchmarking.report.task import Task

# Quick, and without training: enough to see that tests are counted.
CPU_TESTS = "tests/ops/test_tiling.py"
# Characters of the reason of a failure.
REASON = 200
COLUMNS = (
    Column("passed", "passed"),
    Column("failed", "failed"),
    Column("skipped", "skipped"),
    Column("seconds", "time", "s", 0),
)


class Recorder:
    """Counts for the notebook, test by test, what pytest tells its plugins."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self._table = notebook.table("tests", "tests", COLUMNS)
        self._start = time.monotonic()
        self._counts = {"passed": 0, "failed": 0, "skipped": 0}
        self._running = ""
        self._failed: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Those that train come last: the others are done in seconds."""
        items.sort(key=lambda item: "engine/" in item.nodeid)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Said before the test, for one that hangs cannot say it after."""
        self._running = f"{nodeid} had begun and did not come to an end"
        self._notebook.findings.missing.append(self._running)
        self._notebook.save()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test has up to three reports: of what it needs, of itself, of tidying up."""
        if report.failed:
            # A test that fails and cannot tidy up either has failed once.
            if report.nodeid not in self._failed:
                self._counts["failed"] += 1
            self._failed.add(report.nodeid)
            self._notebook.fault(f"{report.nodeid}: {reason(report)}")
        elif report.skipped:
            self._counts["skipped"] += 1
        elif report.when == "call":
            self._counts["passed"] += 1

    def pytest_runtest_logfinish(self) -> None:
        """A test more."""
        self._notebook.findings.missing.remove(self._running)
        self._table.rows.clear()
        seconds = time.monotonic() - self._start
        self._notebook.add(self._table, **self._counts, seconds=seconds)

    def pytest_collectreport(self, report: Any) -> None:
        """A file of tests that cannot even be read."""
        if report.failed:
            self._notebook.fault(f"{report.nodeid} cannot be collected: {reason(report)}")


def reason(report: Any) -> str:
    """The first line of why a test failed."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(report.longrepr) if crash is None else crash.message
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Of a file that cannot be read the last line is the error.
    chosen = lines[-1 if crash is None else 0] if lines else "no reason given"
    return chosen[:REASON]


def measure(task: Task) -> None:
    """Run pytest in this process."""
    chosen = [str(ROOT / CPU_TESTS)] if task.is_small else ["-m", "gpu", str(ROOT / "tests")]
    shown = CPU_TESTS if task.is_small else "-m gpu"
    task.notebook.command(f"pytest {shown}")
    options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    options.append("--continue-on-collection-errors")
    # On a GPU the project's own choice, "not gpu and not slow", is overruled by the later -m.
    pytest.main([*options, *chosen], plugins=[Recorder(task.notebook)])
