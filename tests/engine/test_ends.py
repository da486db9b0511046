"""However a run ends, but by a kill, the last whole step and what was due after it are kept."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.table import Table
from safetensors.torch import load_file

from tests.support import make_pairs, run_training, small_options
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run
from traiNNer.engine.saved_state import read_state
from traiNNer.models import StepResult
from traiNNer.utils.errors import DataError, TrainingError

Capture = pytest.CaptureFixture[str]
AT = 4
SAVED = f"Iteration {AT} is saved: --auto_resume goes on from there."


def states(name: str) -> list[str]:
    return sorted(path.stem for path in Path(f"experiments/{name}/training_states").glob("*.state"))


def weights(name: str, file: str) -> dict[str, torch.Tensor]:
    return load_file(f"experiments/{name}/models/{file}.safetensors")


class Failing(Part):
    """Has something fail once `AT` steps are made."""

    name = "failing"

    def __init__(self, where: str) -> None:
        self.where = where

    def before_step(self, run: Run) -> None:
        if run.iteration != AT:
            return
        if self.where == "before a step":
            raise DataError("it fails here")
        if self.where == "reading":
            run.stream._read = _fail  # type: ignore[method-assign]
        if self.where == "the first half of a step":
            run.recipe.forward_main = _fail  # pyright: ignore[reportAttributeAccessIssue]
        if self.where == "a change of weights":
            run.recipe.runner.apply = _fail  # type: ignore[method-assign]

    def after_step(self, run: Run, result: StepResult) -> None:
        if run.iteration == AT and self.where == "after a step":
            raise TrainingError("it fails here")


def _fail(*_: object, **__: object) -> None:
    raise DataError("it fails here")


@pytest.mark.parametrize(
    "where", ["before a step", "reading", "the first half of a step", "after a step"]
)
def test_a_run_that_failed_goes_on_bit_for_bit(tmp_path: Path, where: str, capfd: Capture) -> None:
    options = small_options(make_pairs(tmp_path / "data"))
    assert run_training(options, "--name", "straight") == 0
    capfd.readouterr()
    assert run_training(options, "--name", "failed", parts=[Failing(where)]) in (1, 2)
    said = capfd.readouterr().err
    assert "it fails here" in said
    assert SAVED in said
    assert states("failed") == ["3", "4"]
    assert run_training(options, "--name", "failed", "--auto_resume") == 0
    for file in ("net_g_6", "net_g_ema_6"):
        straight, failed = weights("straight", file), weights("failed", file)
        assert all(torch.equal(straight[name], failed[name]) for name in straight)


def test_weights_of_half_a_step_are_not_saved(tmp_path: Path, capfd: Capture) -> None:
    options = small_options(make_pairs(tmp_path / "data"))
    assert run_training(options, parts=[Failing("a change of weights")]) == 2
    assert "those of an unfinished step, so they are not saved" in capfd.readouterr().err
    assert states("small") == ["3"]


def test_before_the_first_step_there_is_nothing_to_say(tmp_path: Path, capfd: Capture) -> None:
    class Early(Part):
        name = "early"

        def start(self, run: Run) -> None:
            raise DataError("it fails here")

    assert run_training(small_options(make_pairs(tmp_path / "data")), parts=[Early()]) == 2
    assert capfd.readouterr().err.strip().endswith("it fails here")


def test_a_full_disk_is_said_beside_the_reason(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from traiNNer.engine.checkpoints import Checkpoints

    save = Checkpoints.save

    def full(self: Checkpoints, run: Run, *, prune: bool = True) -> None:
        if run.iteration == AT:
            raise OSError(28, "No space left on device")
        save(self, run, prune=prune)

    monkeypatch.setattr(Checkpoints, "save", full)
    options = small_options(make_pairs(tmp_path / "data"))
    assert run_training(options, parts=[Failing("before a step")]) == 2
    said = capfd.readouterr().err
    assert "it fails here" in said
    assert "could not be saved ([Errno 28] No space left on device)" in said
    assert "the last checkpoint is that of iteration 3" in said


def test_steps_that_are_not_finite_end_the_run_with_the_weights_before_them(
    tmp_path: Path, capfd: Capture
) -> None:
    class Infinite(Part):
        name = "infinite"

        def before_step(self, run: Run) -> None:
            if run.iteration == AT:
                for phase in run.recipe.phases:
                    losses = phase.objectives[0].losses
                    phase.objectives = (_times(losses, float("inf")),)

    options = small_options(make_pairs(tmp_path / "data"))
    options["train"] |= {"total_iter": 40, "max_nonfinite_steps": 3}
    options["logger"] = {"print_freq": 50, "save_checkpoint_freq": 50}
    options["val"] = {"val_enabled": False}
    assert run_training(options, parts=[Infinite()]) == 1
    said = capfd.readouterr().err
    # Looked at every three steps.
    assert "were not finite for 5 iterations in a row" in said
    assert "Iteration 9 is saved" in said
    saved = weights("small", "net_g_9")
    assert all(tensor.isfinite().all() for tensor in saved.values())


def _times(losses: Callable, factor: float):
    from traiNNer.models import Objective

    return Objective(lambda chunk: {name: v * factor for name, v in losses(chunk).items()})


class StoppedIn(Part):
    """Presses Ctrl-C in the validation at an iteration."""

    name = "stopped_in"

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def start(self, run: Run) -> None:
        upscale = run.recipe.upscale  # pyright: ignore[reportAttributeAccessIssue]

        def pressed(lq: torch.Tensor) -> torch.Tensor:
            if run.iteration == self.iteration:
                signal.raise_signal(signal.SIGTERM)
            return upscale(lq)

        validation = next(part for part in run.parts if part.name == "validation")
        validation._upscale = pressed  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("iteration", [3, 6])
def test_a_validation_that_was_interrupted_is_made_when_the_run_goes_on(
    tmp_path: Path, iteration: int
) -> None:
    options = small_options(make_pairs(tmp_path / "data"))
    assert run_training(options, "--name", "straight") == 0
    assert run_training(options, "--name", "stopped", parts=[StoppedIn(iteration)]) == 130
    folder = Path("experiments/stopped")
    state = read_state(folder / f"training_states/{iteration}.state")
    assert state["parts"]["validation"] == {"is_due": True}
    assert run_training(options, "--name", "stopped", "--auto_resume") == 0
    log = (folder / "log/train.log").read_text()
    assert f"validation at {iteration} on val" in log
    assert log.count(f"the validation at {iteration} was interrupted: it is made now") == 1
    bests = [
        read_state(Path(f"experiments/{name}/training_states/6.state"))["parts"]
        for name in ("straight", "stopped")
    ]
    assert bests[0]["checkpoints"] == bests[1]["checkpoints"]
    assert bests[1]["validation"] == {"is_due": False}
    best = [weights(name, "net_g_best") for name in ("straight", "stopped")]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


def test_a_signal_in_the_last_comparison_ends_the_program_and_not_the_run(
    tmp_path: Path, capfd: Capture
) -> None:
    class Late(Part):
        name = "late"

        def summary(self) -> Table | None:
            signal.raise_signal(signal.SIGTERM)
            return None

    assert run_training(small_options(make_pairs(tmp_path / "data")), parts=[Late()]) == 130
    assert "interrupted; what was saved before stays as it is" in capfd.readouterr().err
    assert states("small") == ["3", "6"]


class Unreadable(Part):
    """Wants something saved, from a step on, that a checkpoint cannot keep."""

    name = "unreadable"

    def __init__(self, state: Any, since: int) -> None:
        self.state = state
        self.since = since
        self.is_due = since == 0

    def after_step(self, run: Run, result: StepResult) -> None:
        self.is_due = run.iteration >= self.since

    def state_dict(self) -> dict[str, Any]:
        return self.state if self.is_due else {}


@pytest.mark.parametrize("since", [0, 1])
@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"value": np.float64(1)}, "'value' in the state of the part 'unreadable' (float64)"),
        ({"file": Path("a")}, "str(path) in place of a path"),
        ({"call": lambda: None}, "'call' in the state of the part 'unreadable' (function)"),
        ([1, 2], "the part 'unreadable' gives list as its state"),
    ],
)
def test_a_state_that_no_checkpoint_can_keep_is_said_before_work_hangs_on_it(
    tmp_path: Path, capfd: Capture, state: Any, message: str, since: int
) -> None:
    options = small_options(make_pairs(tmp_path / "data"))
    assert run_training(options, parts=[Unreadable(state, since)]) == 2
    assert message in capfd.readouterr().err


def test_a_part_without_a_name_is_refused(tmp_path: Path, capfd: Capture) -> None:
    class Nameless(Part):
        pass

    assert run_training(small_options(make_pairs(tmp_path / "data")), parts=[Nameless()]) == 2
    assert "the part Nameless has no name" in capfd.readouterr().err


def test_a_validation_that_is_interrupted_again_stays_due(tmp_path: Path) -> None:
    options = small_options(make_pairs(tmp_path / "data"))
    assert run_training(options, parts=[StoppedIn(6)]) == 130
    assert run_training(options, "--auto_resume", parts=[StoppedIn(6)]) == 130
    state = read_state(Path("experiments/small/training_states/6.state"))
    assert state["parts"]["validation"] == {"is_due": True}
