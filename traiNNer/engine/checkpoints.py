"""Weights and states on the disk: whole or absent, the last few and the best.

A checkpoint is committed by its state file, which is written last and names the weights that belong
to it. So a kill between two files leaves weights without a state, which nothing reads, and never a
state without its weights.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as to_safetensors

import traiNNer
from traiNNer.archs.loading import load_weights
from traiNNer.engine.folders import RunFolders
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run
from traiNNer.models import BaseModel, Network, Role, StepResult
from traiNNer.options.loading import changed_options, options_hash
from traiNNer.options.schema import NetworkOptions, TrainingOptions
from traiNNer.utils.errors import CheckpointError, DiskError, TrainingError
from traiNNer.utils.files import write_atomic

log = logging.getLogger(__name__)
# 2: parts by name. A state of format 1 had them wired by hand.
FORMAT = 2
KEYS = {"files", "parts", "options"}


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
        write: puts a whole file in its place, or raises DiskError and leaves what was there.
    """

    name = "checkpoints"

    def __init__(
        self,
        folders: RunFolders,
        options: TrainingOptions,
        write: Callable[[Path, bytes], None] = write_atomic,
    ) -> None:
        self.folders = folders
        self.options = options
        self.write = write
        self.best: Best | None = None
        self._saved_iteration: int | None = None

    # -- saving ------------------------------------------------------------------------------------

    def after_step(self, run: Run, result: StepResult) -> None:  # noqa: ARG002
        run.stopped = run.interrupts.requested
        if not run.stopped and not run.is_due(self.options.logger.save_checkpoint_freq):
            return
        run.recipe.flush_checks()
        unfinished = run.iteration < run.total and not run.stopped
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

    def save(self, run: Run) -> None:
        """Write weights, then the state; then delete what is older than the last few.

        Raises:
            DiskError: if a file cannot be written; the former checkpoints are untouched.
            TrainingError: if the weights are not finite; the former checkpoints are untouched.
        """
        iteration = run.iteration
        if self._saved_iteration == iteration:
            return
        networks = [network for network in run.recipe.networks if network.saved]
        weights = {network.name: _weights(network) for network in networks}
        if not all(map(_are_finite, weights.values())):
            raise TrainingError(
                f"the weights are not finite at iteration {iteration}, so they are not saved; "
                "lower train.optim_g.lr and go on from the last checkpoint, which is good, with "
                "path.pretrain_network_g"
            )
        files = {name: f"{name}_{iteration}.safetensors" for name in weights}
        buffer = io.BytesIO()
        torch.save(self._state(run, files), buffer)
        path = self.folders.states / f"{iteration}.state"
        try:
            for network in networks:
                self._write_weights(network, weights[network.name], files[network.name], iteration)
            self.write(path, buffer.getvalue())
        except DiskError:
            if not path.exists():
                self._remove_weights(files)
            raise
        self._saved_iteration = iteration
        log.info("saved iteration %d in %s", iteration, self.folders.root)
        self._prune()

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
        self._write_weights(evaluated, _weights(evaluated), file, iteration)
        self.best = Best(metric, value, iteration)
        log.info(
            "best so far: %s %.4f at iteration %d, kept as %s",
            metric,
            value,
            iteration,
            self.folders.models / file,
        )

    def metadata(self, network: Network, iteration: int) -> dict[str, str]:
        """What a weights file says about itself; all values are text, as safetensors wants."""
        # A recipe may build a network that no section of the options describes.
        described: NetworkOptions | None = getattr(self.options, network.section, None)
        architecture: dict[str, str] = {}
        if described is not None:
            architecture["arch"] = described.type
            architecture["parameters"] = json.dumps(described.params)
        return architecture | {
            "scale": str(self.options.scale),
            "iteration": str(iteration),
            "ema": str(network.role is Role.AVERAGE).lower(),
            "options_hash": options_hash(self.options),
            "traiNNer": traiNNer.__version__,
        }

    def state_dict(self) -> dict[str, Any]:
        return {"best": None if self.best is None else vars(self.best)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = Best(**state["best"]) if state["best"] else None

    def _state(self, run: Run, files: dict[str, str]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "files": files,
            "parts": {name: part.state_dict() for name, part in run.stateful.items()},
            "options": self.options.model_dump(mode="json"),
        }

    def _write_weights(
        self, network: Network, weights: dict[str, torch.Tensor], file: str, iteration: int
    ) -> None:
        content = to_safetensors(weights, metadata=self.metadata(network, iteration))
        self.write(self.folders.models / file, content)

    def _remove_weights(self, files: Mapping[str, str]) -> None:
        """Weights without a state: nothing would ever read or delete them."""
        for name in files.values():
            with contextlib.suppress(OSError):
                (self.folders.models / name).unlink(missing_ok=True)

    def _prune(self) -> None:
        states = [path for path in self.folders.states.glob("*.state") if path.stem.isdigit()]
        states.sort(key=lambda path: int(path.stem))
        for state in states[: -self.options.logger.keep_last]:
            state.unlink(missing_ok=True)
            for weights in self.folders.models.glob(f"*_{state.stem}.safetensors"):
                weights.unlink(missing_ok=True)

    # -- loading -----------------------------------------------------------------------------------

    def load(self, path: Path, run: Run) -> None:
        """Put the run where it was when `path` was saved.

        Raises:
            CheckpointError: if a file is missing, damaged or of another network.
        """
        state = read_state(path)
        for network in run.recipe.networks:
            if network.saved:
                _load_network(network, state["files"], path)
        self._refuse_other_types(path, state["options"]["train"])
        try:
            self._load_parts(path, run, state["parts"])
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"{path} does not fit these options (another optimizer or scheduler?): {error}. "
                "Use the options that the run was started with, or start anew from its weights "
                "with path.pretrain_network_g."
            ) from error
        self._saved_iteration = run.iteration
        self._say_what_changed(path, state["options"])
        log.info(
            "resumed %s: iteration %d, %d samples",
            path,
            run.iteration,
            run.stream.loader.samples_consumed,
        )

    def _load_parts(self, path: Path, run: Run, states: Mapping[str, Any]) -> None:
        for name, part in run.stateful.items():
            if name in states:
                part.load_state_dict(states[name])
            else:
                log.info("%s holds nothing of the %s: it starts anew", path.name, name)
        for name in states.keys() - run.stateful.keys():
            log.info("%s holds a state of the %s, which is not part of this run", path.name, name)

    def _refuse_other_types(self, path: Path, before: dict[str, Any]) -> None:
        """Another class could not use the saved state, and would not always say so."""
        now = self.options.train.model_dump(mode="json")
        for key in ("optim_g", "scheduler"):
            former, present = ((section[key] or {}).get("type") for section in (before, now))
            if former != present:
                raise CheckpointError(
                    f"{path} was saved with train.{key}.type: {former}, and now it is {present}: "
                    f"its state is of no use to the other one. Keep {former}, or start anew from "
                    "its weights with path.pretrain_network_g."
                )

    def _say_what_changed(self, path: Path, before: dict[str, Any]) -> None:
        """Warn of options that differ from the checkpoint's, and say which of the two counts."""
        for key, (old, new) in changed_options(before, self.options).items():
            if key.startswith(("path.", "name")):
                continue
            kept = key.startswith(("train.optim_g.", "train.scheduler"))
            rule = (
                "the checkpoint's counts, it is part of the state" if kept else "the new one counts"
            )
            if key == "train.total_iter" and self.options.train.scheduler is not None:
                rule += ", while the schedule of the learning rate keeps its old length"
            log.warning(
                "%s was saved with %s: %s, and now it is %s; %s", path.name, key, old, new, rule
            )


def read_state(path: Path) -> dict[str, Any]:
    """Read a state file without executing anything in it.

    Raises:
        CheckpointError: if it is damaged or no state.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} is damaged or no training state ({type(error).__name__}); delete it to go on "
            "from the one before, or name another with path.resume_state"
        ) from error
    found = state.get("format") if isinstance(state, dict) else None
    if isinstance(found, int) and found != FORMAT:
        raise CheckpointError(
            f"{path} is a state of format {found}, and this version reads format {FORMAT}: go on "
            "with the version that wrote it, or start anew from its weights with "
            "path.pretrain_network_g"
        )
    if found is None or not state.keys() >= KEYS:
        raise CheckpointError(
            f"{path} is no training state of this program (weights go to path.pretrain_network_g)"
        )
    return state


def _load_network(network: Network, files: Mapping[str, str], path: Path) -> None:
    """The weights that a checkpoint has for a network, as its role asks for.

    Raises:
        CheckpointError: if they are missing and required, damaged, or of another network.
    """
    name = files.get(network.name)
    if name is None and network.averaged_from is not None:
        log.warning(
            "%s holds no %s: it starts from %s's weights",
            path,
            network.name,
            network.averaged_from,
        )
        name = files.get(network.averaged_from)
    if name is None:
        if network.required:
            raise CheckpointError(
                f"cannot go on from {path}: it holds no weights of {network.name}, which this run "
                "trains. Use the options that the run was started with, or start anew from its "
                "weights with path.pretrain_network_g."
            )
        log.warning("%s holds no %s: it starts as it was built", path, network.name)
        return
    models = path.parent.parent / "models"
    try:
        load_weights(network.module, models / name, strict=True, what=network.name)
    except CheckpointError as error:
        raise CheckpointError(
            f"cannot go on from {path}: {error}\nIf the options are those of the run and the file "
            f"is lost, delete {path} to go on from the checkpoint before it."
        ) from error


def _weights(network: Network) -> dict[str, torch.Tensor]:
    """The weights as independent, contiguous tensors in main memory, as safetensors wants them."""
    return {
        name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, weight in network.module.state_dict().items()
    }


def _are_finite(weights: Mapping[str, torch.Tensor]) -> bool:
    return all(w.isfinite().all() for w in weights.values() if w.is_floating_point())
