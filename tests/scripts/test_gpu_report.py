"""The report of what a card can do: it outlives what it measures, and says plainly what failed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psutil
import pytest

from scripts.benchmarking.report.comparison import read_report as read_former
from scripts.benchmarking.report.comparison import render_changes
from scripts.benchmarking.report.machine import Machine
from scripts.benchmarking.report.measure_landing import choose_limits, diagonal, fill_errors
from scripts.benchmarking.report.measure_tests import Recorder
from scripts.benchmarking.report.measure_training import make_options
from scripts.benchmarking.report.page import render
from scripts.benchmarking.report.pictures import draw_all
from scripts.benchmarking.report.processes import KEPT_BYTES, run_command
from scripts.benchmarking.report.results import Column, Findings, Notebook, Table, read_findings
from scripts.benchmarking.report.running import (
    Item,
    Outcome,
    Report,
    run_item,
    run_items,
    share_of_time,
)
from scripts.benchmarking.report.task import Task
from scripts.benchmarking.vram_real import prediction_errors
from tests.support import load_script, write_options
from tests.support import run_command as run_script
from traiNNer.options.loading import load_options
from traiNNer.options.schema import TrainingOptions

GIB = 2**30
COLUMNS = (Column("network", "network"), Column("speed", "speed", "steps/s"))


def item(code: str, name: str = "one") -> Item:
    """An item whose process runs this code; `findings` is the path of its findings."""

    def command(findings: Path, seconds: float) -> list[str]:
        return [sys.executable, "-c", f"findings = {str(findings)!r}\n{code}"]

    return Item(name, f"item {name}", 1.0, command)


def findings_with(rows: int) -> Findings:
    row = {"network": "a|b", "speed": 1234.5}
    return Findings([Table("steps", "some steps", COLUMNS, [dict(row) for _ in range(rows)])])


# -- time ------------------------------------------------------------------------------------------


def test_what_an_item_leaves_over_goes_to_all_that_follow() -> None:
    assert share_of_time(100, [1, 3]) == 25
    assert share_of_time(99, [3]) == 99
    assert share_of_time(-1, [3, 1]) == 0


def test_items_for_which_no_time_is_left_are_named(tmp_path: Path) -> None:
    report = Report()
    assert run_items([item("pass")], 1, tmp_path, report, lambda _: None, lambda _: None)
    assert (report.outcomes[0].state, report.is_good) == ("not started", False)
    assert "the time was up" in render(report)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_the_options_of_its_training_are_right(kind: str, tmp_path: Path) -> None:
    task = cast("Task", SimpleNamespace(machine=SimpleNamespace(kind=kind), is_small=kind == "cpu"))
    path = write_options(tmp_path / "o.yml", make_options(task, tmp_path))
    assert load_options(TrainingOptions, path, []).length.key == "total_iter"


# -- what goes wrong -------------------------------------------------------------------------------


HANGS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def test_an_item_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    outcome = run_item(item(HANGS), 2, tmp_path)
    assert outcome.state == "time up"
    assert "the time that it was given" in outcome.message
    (pid,) = outcome.last_lines
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == "zombie"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise ValueError('too hot')", "exit code 1"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "main memory runs out"),
        ("import os; os.abort()", "SIGABRT"),
        ("raise MemoryError", "exit code 1"),
        ("pass", "gave no figures"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of Unix")
def test_an_item_that_crashes_is_a_sentence(tmp_path: Path, code: str, message: str) -> None:
    outcome = run_item(item(code), 20, tmp_path)
    assert outcome.state == "failed"
    assert message in outcome.message
    assert not outcome.is_good


def test_of_megabytes_the_end_is_kept() -> None:
    code = "print('x' * 2**24, flush=True); print('the end')"
    ending = run_command([sys.executable, "-c", code], 20)
    assert ending.code == 0
    assert len(ending.output) <= 2 * KEPT_BYTES
    assert ending.last_lines(1) == ["the end"]


def test_figures_of_an_item_that_hangs_are_kept(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path / "made.json")
    notebook.add(notebook.table("steps", "some steps", COLUMNS), network="span", speed=math.nan)
    copy = f"import pathlib, time; pathlib.Path(findings).write_text({notebook.path.read_text()!r})"
    outcome = run_item(item(f"{copy}\ntime.sleep(600)"), 2, tmp_path)
    assert outcome.findings.tables[0].rows == [{"network": "span", "speed": None}]
    assert (outcome.state, outcome.is_good) == ("time up", False)


def test_figures_of_a_former_report_are_not_taken(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path / "one.json")
    notebook.add(notebook.table("steps", "some steps", COLUMNS), network="span", speed=1.0)
    assert not run_item(item("pass"), 20, tmp_path).findings.has_figures


def test_half_a_file_is_no_findings(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"tables": [')
    assert read_findings(tmp_path / "half.json") == Findings()


def test_what_was_measured_before_ctrl_c_is_written(tmp_path: Path) -> None:
    def interrupt(findings: Path, seconds: float) -> list[str]:
        raise KeyboardInterrupt

    saved: list[list[str]] = []

    def save(report: Report) -> None:
        saved.append([outcome.state for outcome in report.outcomes])

    items = [item("pass", "a"), Item("b", "item b", 1.0, interrupt), item("pass", "c")]
    report = Report()
    assert not run_items(items, 60, tmp_path, report, save, lambda _: None)
    assert saved[-1] == ["failed", "interrupted", "not started"]


# -- the page --------------------------------------------------------------------------------------


def failing_report() -> Report:
    crashed = Outcome("a", "crashing", "failed", message="ended with exit code 1",
                      last_lines=["CUDA error: misaligned address"])  # fmt: skip
    faulty = Outcome("b", "landing", "done", seconds=60, findings=findings_with(2))
    faulty.findings.faults.append("compact ended at 97.0 %")
    faulty.findings.missing.append("limits of 24 GiB: the card has 12.0 GiB")
    late = Outcome("c", "playback", "not started", message="was not begun, for the time was up")
    facts = {"device": "NVIDIA H100 (79.10 GiB)"}
    return Report(facts, "python gpu_report.py", 9, [crashed, faulty, late])


def test_the_page_names_failures_first() -> None:
    report = failing_report()
    page = render(report)
    order = [
        "NVIDIA H100",
        "0 of 3 items",
        "## What went wrong",
        "CUDA error: misaligned address",
        "compact ended at 97.0 %",
        "## What was not measured",
        "limits of 24 GiB",
        "**playback** was not begun, for the time was up.",
        "| network | speed, steps/s |",
        "| --- | ---: |",
        "| a\\|b | 1,234.5 |",
    ]
    places = [page.find(text) for text in order]
    assert -1 not in places
    assert places == sorted(places)
    assert not report.is_good


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    report = failing_report()
    again = Report.from_json(json.loads(json.dumps(report.as_json())))
    assert again == report
    assert render(again) == render(report)


def test_pictures_are_linked_and_one_that_fails_is_a_note(tmp_path: Path) -> None:
    report = failing_report()
    # A speed that is no number cannot be drawn.
    bad = Table("planner", "a plan", (), [{"network": "x", "planned_mib": 1.0}])
    report.outcomes[1].findings.tables.append(bad)
    bad.rows.append(None)  # pyright: ignore[reportArgumentType]
    report.outcomes[1].findings.tables[0].rows[0]["variant"] = "fp32"
    report.outcomes[1].findings.tables[0].rows[0]["steps_per_s"] = 3.0
    draw_all(report, tmp_path)
    assert report.pictures == {"b": ["steps.png"]}
    assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")
    assert "planner.png could not be drawn" in report.notes[0]


# -- the pieces ------------------------------------------------------------------------------------


def test_limits_above_the_card_are_left_out_and_said() -> None:
    said: list[str] = []
    card = Machine("cuda", "a card", 12 * GIB)
    assert choose_limits(card, said.append) == [8.0, None]
    assert said == ["limits of 12 and 24 GiB: the card has 12.0 GiB"]


def test_the_first_runs_hold_every_network_and_every_size() -> None:
    pairs = list(diagonal("abcd", [8.0, 12.0, 24.0, None]))
    assert len(set(pairs)) == 16
    first = pairs[:4]
    assert {kind for kind, _ in first} == set("abcd")
    assert {limit for _, limit in first} == {8.0, 12.0, 24.0, None}


def test_errors_of_predictions() -> None:
    shapes = [(16, 1), (16, 1), (32, 1), (32, 1), (32, 2)]
    moves = [("t", "16", "1", "32", "1", "50.0"), ("t", "32", "1", "32", "2", "80.0")]
    errors = prediction_errors(moves, shapes, [20.0, 20.0, 45.0, 40.0, 80.0])
    assert errors == ((1, pytest.approx(0.25)), (2, 0.0))
    table = Table("errors", "errors", ())
    fill_errors(table, [*errors, (4, 0.5)])
    assert [(row["of"], row["count"], row["p50_pct"]) for row in table.rows] == [
        ("all", 3, 25.0),
        ("after four shapes", 1, 50.0),
    ]


def outcome_of(nodeid: str, when: str, outcome: str) -> SimpleNamespace:
    flags = {name: name == outcome for name in ("failed", "skipped", "passed")}
    crash = SimpleNamespace(message="assert 1 == 2\n + where")
    longrepr = SimpleNamespace(reprcrash=crash)
    return SimpleNamespace(nodeid=nodeid, when=when, longrepr=longrepr, **flags)


def test_tests_are_counted_one_by_one(tmp_path: Path) -> None:
    recorder = Recorder(notebook := Notebook(tmp_path / "tests.json"))
    phases = {
        "good": [("setup", "passed"), ("call", "passed"), ("teardown", "passed")],
        "bad": [("setup", "passed"), ("call", "failed"), ("teardown", "failed")],
        "left out": [("setup", "skipped")],
    }
    for nodeid, reports in phases.items():
        recorder.pytest_runtest_logstart(nodeid)
        for when, outcome in reports:
            recorder.pytest_runtest_logreport(outcome_of(nodeid, when, outcome))
        recorder.pytest_runtest_logfinish()
    recorder.pytest_runtest_logstart("endless")
    findings = read_findings(notebook.path)
    (row,) = findings.tables[0].rows
    assert [row[key] for key in ("passed", "failed", "skipped")] == [1, 1, 1]
    assert findings.faults == ["bad: assert 1 == 2"]
    assert findings.missing == ["endless had begun and did not come to an end"]


# -- the command -----------------------------------------------------------------------------------


def machine(kind: str) -> Callable[[Path, bool], Machine]:
    return lambda path, cpu: Machine(kind, "CPU x86_64")


def test_without_a_gpu_it_names_the_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script("scripts/benchmarking/gpu_report.py")
    assert script.main(["--out", str(tmp_path / "r")], look=machine("cpu")) == 1
    assert "--cpu measures everything small on the CPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--items", "landing,speed"], "speed: expected some of tests, landing"),
        (["--minutes", "0"], "expected minutes, above 0"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script("scripts/benchmarking/gpu_report.py")
    with pytest.raises(SystemExit, match="2"):
        script.main(arguments)
    assert said in capsys.readouterr().err


def read_report(folder: Path) -> Report:
    return Report.from_json(json.loads((folder / "report.json").read_text()))


def test_a_report_of_one_item(tmp_path: Path) -> None:
    done = run_script(
        "scripts/benchmarking/gpu_report.py",
        *("--cpu", "--items", "playback", "--minutes", "1", "--out", "made"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = read_report(tmp_path / "made")
    assert report.is_good
    assert all(row["frames_per_s"] for row in report.outcomes[0].findings.tables[0].rows)
    assert "![playback](playback.png)" in (tmp_path / "made" / "report.md").read_text()


@pytest.mark.slow
def test_the_whole_report_on_a_cpu(tmp_path: Path) -> None:
    done = run_script(
        "scripts/benchmarking/gpu_report.py",
        *("--cpu", "--minutes", "4", "--out", "made"),
        cwd=tmp_path,
        timeout_s=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = read_report(tmp_path / "made")
    assert [outcome.is_good for outcome in report.outcomes] == [True] * 9
    assert set(report.pictures) == {
        "landing", "planner", "steps", "host", "playback", "training",
    }  # fmt: skip


def report_of(steps: float, memory: float, network: str = "span") -> Report:
    columns = (
        Column("network", "network"),
        Column("steps", "speed", "steps/s"),
        Column("mib", "peak"),
    )
    table = Table("steps", "steps", columns, [{"network": network, "steps": steps, "mib": memory}])
    outcome = Outcome("steps", "steps of training", "done", findings=Findings([table]))
    return Report({"device": "a card"}, "python gpu_report.py", 9.0, [outcome])


def test_what_changed_is_told_beside_a_former_report(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(report_of(10.0, 500.0).as_json()))
    page = render_changes(read_former(path), report_of(15.0, 510.0))
    assert "What changed since `python gpu_report.py` on a card" in page
    assert "| steps | span | speed, steps/s | 10.0 | 15.0 | 1.50 |" in page
    assert "peak" not in page
    assert "No figure that both have" in render_changes(report_of(1, 1), report_of(2, 2, "other"))
    script = load_script("scripts/benchmarking/gpu_report.py")
    path.write_text("{}")
    assert script.main(["--cpu", "--compare", str(path), "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()
