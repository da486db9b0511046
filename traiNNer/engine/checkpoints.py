"""Weights and states on the disk: whole or absent, the last few and the best.

A checkpoint is committed by its state file, which is written last and names the weights that belong
to it. So a kill between two files leaves weights without a state, which nothing reads, and never a
state without its weights.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as to_safetensors

import traiNNer
from traiNNer.archs.seals import BLANK, SEAL, sealed
from traiNNer.engine.folders import RunFolders, saved_states
from traiNNer.engine.part import Part, Stateful
from traiNNer.engine.resuming import load_state, say_what_changed
from traiNNer.engine.run import Run
from traiNNer.engine.saved_state import (
    FORMAT,
    read_state,
    require_readable,
    state_bytes,
    weights_of,
)
from traiNNer.engine.schedules import adapt_schedules
from traiNNer.models import BaseModel, Network, Role, StepResult
from traiNNer.options.components import Component
from traiNNer.options.entries import NetworkOptions
from traiNNer.options.length import RunLength
from traiNNer.options.loading import options_hash
from traiNNer.options.schema import LoggerOptions, TrainingOptions
from traiNNer.utils.errors import DiskError, TrainingError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.out_of_memory import first_line

log = logging.getLogger(__name__)


@dataclass
class Best:
    """The best validation so far."""

    metric: str
    value: float
    iteration: int


class Checkpoints(Part):
    """Saves the run when it is due or interrupted, and loads what was saved.

    A checkpoint holds the weights of every network by its role, and the state of everything else by
    its name.

    Args:
        folders: the run's folders.
        options: the run's options; their hash and the networks' parameters go into every file.
        facts: what weights files say besides, of the recipe's own.
        write: puts a whole file in its place, or raises DiskError and leaves what was there.
    """

    name = "checkpoints"

    def __init__(
        self,
        folders: RunFolders,
        options: TrainingOptions,
        facts: Mapping[str, str] | None = None,
        write: Callable[[Path, bytes], None] = write_atomic,
    ) -> None:
        self.folders = folders
        self.options = options
        self.facts = facts or {}
        self.write = write
        self.best: Best | None = None
        self._began_at = 0
        self._saved_iteration: int | None = None
        self._saved_files: dict[str, dict[str, str]] = {}
        self._is_outdated = False

    # -- saving ------------------------------------------------------------------------------------

    def start(self, run: Run) -> None:
        self._began_at = run.iteration
        # What was read a moment ago can be read again.
        parts = {part.name: part for part in run.parts}
        _require_readable_states(run.stateful if run.iteration == 0 else parts)

    def after_step(self, run: Run, result: StepResult) -> None:  # noqa: ARG002
        # Some states have their values from a step. Later, hours of work would hang on them.
        if run.iteration == self._began_at + 1:
            # The recipe's is left out: to give it, it waits for the device.
            _require_readable_states({part.name: part for part in run.parts})
        run.stopped = run.wants_end
        if run.stopped or run.is_due(self.options.logger.save_checkpoint_freq):
            self._save_if_finite(run)

    def stop(self, run: Run) -> None:
        run.stopped = True
        self._save_if_finite(run)

    def rescue(self, run: Run) -> str:
        iteration = run.iteration
        if iteration == self._began_at:
            return ""
        try:
            # What it says of the last steps is in the error already.
            with contextlib.suppress(TrainingError):
                run.recipe.flush_checks()
            # What came before the error may be what somebody wants to go on from.
            self.save(run, prune=False)
        except Exception as error:  # noqa: BLE001 (the reason of the end is another one)
            last = "nothing was saved"
            if self._saved_iteration is not None:
                last = f"the last checkpoint is that of iteration {self._saved_iteration}"
            return f"Iteration {iteration} could not be saved ({first_line(error)}); {last}."
        return f"Iteration {iteration} is saved: --auto_resume goes on from there."

    def _save_if_finite(self, run: Run) -> None:
        if run.iteration == 0:
            log.info("interrupted before the first step: there is nothing to save")
            return
        run.recipe.flush_checks()
        unfinished = not run.is_over and not run.stopped
        skipped = max(phase.guard.in_a_row for phase in run.recipe.phases)
        if skipped and unfinished:
            log.warning(
                "not saved at %d: the last %d steps were not finite, and the checkpoint before "
                "stays the last",
                run.iteration,
                skipped,
            )
        else:
            with run.clock.outside():
                self.save(run)
        if run.stopped:
            log.info("interrupted at iteration %d; --auto_resume goes on from here", run.iteration)

    def save(self, run: Run, *, prune: bool = True) -> None:
        """Write weights, then the state.

        Args:
            run: what is saved.
            prune: then delete what is older than the last few.

        Raises:
            DiskError: if a file cannot be written; the former checkpoints are untouched.
            TrainingError: if the weights are not finite; the former checkpoints are untouched.
        """
        iteration = run.iteration
        is_saved = self._saved_iteration == iteration
        if is_saved and not self._is_outdated:
            return
        # Of what is saved already, the state alone is written anew: it names the best weights.
        if is_saved:
            self._write_state(run)
            self._is_outdated = False
            return
        networks = [network for network in run.recipe.networks if network.saved]
        weights = {network.name: _weights(network) for network in networks}
        if not all(map(_are_finite, weights.values())):
            raise TrainingError(
                f"the weights are not finite at iteration {iteration}, so they are not saved; "
                "lower train.optim_g.lr and start from the weights of a checkpoint before it, with "
                "path.pretrain_network_g"
            )
        logger = self.options.logger
        keep_last = logger.keep_last
        try:
            self._write(run, weights)
        except DiskError:
            # Those that would go afterwards go before, if there is no room else. The newest stays,
            # which is whole: this run has saved it, or goes on from it.
            if keep_last is None or not _prune(self.folders, logger, keep=max(1, keep_last - 1)):
                raise
            log.warning("no room for another checkpoint: older ones were deleted first")
            self._write(run, weights)
        self._saved_iteration = iteration
        self._is_outdated = False
        log.info("saved iteration %d in %s", iteration, self.folders.root)
        if prune and keep_last is not None:
            _prune(self.folders, logger, keep=keep_last)

    def outdate(self) -> None:
        """The state that was saved at this iteration says what is not true any more."""
        self._is_outdated = True

    def save_if_best(
        self, recipe: BaseModel, metric: str, value: float, better: Literal["higher", "lower"]
    ) -> None:
        """Keep the validated weights as `net_g_best.safetensors` if `value` beats all before."""
        iteration = recipe.iteration
        if math.isnan(value):
            log.warning(
                "%s is not a number at iteration %d: the weights cannot be the best",
                metric,
                iteration,
            )
            return
        if self.best is not None and self.best.metric == metric:
            rise = value - self.best.value
            if (rise if better == "higher" else -rise) <= 0:
                return
        evaluated = recipe.networks.evaluated(recipe.main)
        file = f"{recipe.main.name}_best.safetensors"
        self._write_weights(recipe, evaluated, _weights(evaluated), file)
        self.best = Best(metric, value, iteration)
        self.outdate()
        log.info(
            "best so far: %s %.4f at iteration %d, kept as %s",
            metric,
            value,
            iteration,
            self.folders.models / file,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"best": None if self.best is None else vars(self.best)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = Best(**state["best"]) if state["best"] else None

    def _write(self, run: Run, weights: Mapping[str, dict[str, torch.Tensor]]) -> None:
        """All files of a checkpoint, the state last; or none of them, and DiskError."""
        iteration = run.iteration
        names = {name: f"{name}_{iteration}.safetensors" for name in weights}
        files: dict[str, dict[str, str]] = {}
        try:
            for network in run.recipe.networks:
                name = network.name
                if name in names:
                    digest = self._write_weights(run.recipe, network, weights[name], names[name])
                    files[name] = {"name": names[name], SEAL: digest}
            self._saved_files = files
            self._write_state(run)
        except DiskError:
            if not _state_path(self.folders, iteration).exists():
                _remove_weights(self.folders, names.values())
            raise

    def _write_state(self, run: Run) -> None:
        run.tell_time()
        state = {
            "format": FORMAT,
            "files": self._saved_files,
            "parts": {name: part.state_dict() for name, part in run.stateful.items()},
            "options": self.options.model_dump(mode="json"),
        }
        self.write(_state_path(self.folders, run.iteration), state_bytes(state))

    def _write_weights(
        self, recipe: BaseModel, network: Network, weights: dict[str, torch.Tensor], file: str
    ) -> str:
        """Put the weights into `file`; their checksum."""
        metadata = _metadata(network, self.options, recipe.iteration)
        done = recipe.length.done(recipe.work)
        metadata |= {**self.facts, **network.facts, "done": repr(done), SEAL: BLANK}
        content, digest = sealed(to_safetensors(weights, metadata=metadata))
        self.write(self.folders.models / file, content)
        return digest

    # -- loading -----------------------------------------------------------------------------------

    def load(self, path: Path, run: Run) -> None:
        """Put the run where it was when `path` was saved.

        Raises:
            CheckpointError: if a file is missing, damaged or of another network.
        """
        state = read_state(path)
        load_state(state, path, run)
        former = RunLength(**state["parts"]["recipe"]["length"])
        restarted = adapt_schedules(run.recipe, former, state["options"]["train"], self.options)
        # A state of another folder has its weights there.
        if path.parent.resolve() == self.folders.states.resolve():
            self._saved_iteration = run.iteration
        self._saved_files = state["files"]
        say_what_changed(path, state["options"], self.options, restarted=restarted)
        log.info(
            "resumed %s: iteration %d, %d samples",
            path,
            run.iteration,
            run.stream.loader.samples_consumed,
        )


def _require_readable_states(stateful: Mapping[str, Stateful]) -> None:
    """See that a checkpoint could be read again.

    Raises:
        OptionsError: naming the part whose state could not.
    """
    for name, part in stateful.items():
        require_readable(name, part.state_dict())


def _state_path(folders: RunFolders, iteration: int) -> Path:
    return folders.states / f"{iteration}.state"


def _remove_weights(folders: RunFolders, names: Iterable[str]) -> None:
    """Weights without a state: nothing would ever read or delete them."""
    for name in names:
        with contextlib.suppress(OSError):
            (folders.models / name).unlink(missing_ok=True)


def _prune(folders: RunFolders, options: LoggerOptions, keep: int) -> int:
    """Delete all but the `keep` newest checkpoints; how many."""
    old = saved_states(folders)[:-keep]
    for state in old:
        files = [] if options.keep_weights else weights_of(state)
        state.unlink(missing_ok=True)
        _remove_weights(folders, files)
    return len(old)


def _metadata(network: Network, options: TrainingOptions, iteration: int) -> dict[str, str]:
    """What a weights file says about itself; all values are text, as safetensors wants."""
    # A recipe may build a network that no section of the options describes.
    described: Component | None = getattr(options, network.section, None)
    architecture: dict[str, str] = {}
    if described is not None:
        # What reads a network to upscale with looks for "arch".
        kind = "arch" if isinstance(described, NetworkOptions) else "discriminator"
        architecture[kind] = described.type
        architecture["parameters"] = json.dumps(described.params)
    return architecture | {
        "scale": str(options.scale),
        "iteration": str(iteration),
        "ema": str(network.role is Role.AVERAGE).lower(),
        "options_hash": options_hash(options),
        "traiNNer": traiNNer.__version__,
    }


def _weights(network: Network) -> dict[str, torch.Tensor]:
    """The weights as independent, contiguous tensors in main memory, as safetensors wants them."""
    return {
        name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, weight in network.module.state_dict().items()
    }


def _are_finite(weights: Mapping[str, torch.Tensor]) -> bool:
    return all(w.isfinite().all() for w in weights.values() if w.is_floating_point())
