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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as to_safetensors
from torch import nn

import traiNNer
from traiNNer.archs.loading import load_weights
from traiNNer.data import DynamicDataLoaderWrapper
from traiNNer.engine.memory_fit import MemoryFit
from traiNNer.engine.runs import RunFolders
from traiNNer.models import BaseModel
from traiNNer.options.loading import changed_options, options_hash
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.errors import CheckpointError, DiskError, TrainingError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.seeds import restore_rng_state, rng_state

log = logging.getLogger(__name__)
FORMAT = 1
KEYS = {"files", "loader", "model", "rng", "best", "options"}


@dataclass
class Best:
    """The best validation so far."""

    metric: str
    value: float
    iteration: int


class Checkpoints:
    """Saves and loads the checkpoints of one run.

    Args:
        folders: the run's folders.
        options: the run's options; their hash and the network's parameters go into every file.
    """

    def __init__(self, folders: RunFolders, options: TrainingOptions) -> None:
        self.folders = folders
        self.options = options
        self.best: Best | None = None
        self.fit: MemoryFit | None = None
        self._saved_iteration: int | None = None

    def metadata(self, iteration: int, *, ema: bool) -> dict[str, str]:
        """What a weights file says about itself; all values are text, as safetensors wants."""
        network = self.options.network_g
        return {
            "arch": network.type,
            "parameters": json.dumps(network.params),
            "scale": str(self.options.scale),
            "iteration": str(iteration),
            "ema": str(ema).lower(),
            "options_hash": options_hash(self.options),
            "traiNNer": traiNNer.__version__,
        }

    def save(self, model: BaseModel, loader: DynamicDataLoaderWrapper) -> None:
        """Write weights, then the state; then delete what is older than the last few.

        Raises:
            DiskError: if a file cannot be written; the former checkpoints are untouched.
            TrainingError: if the weights are not finite; the former checkpoints are untouched.
        """
        iteration = model.iteration
        if self._saved_iteration == iteration:
            return
        weights = {stem: _weights(network) for stem, network in model.networks.items()}
        if not all(
            w.isfinite().all()
            for own in weights.values()
            for w in own.values()
            if w.is_floating_point()
        ):
            raise TrainingError(
                f"the weights are not finite at iteration {iteration}, so they are not saved; "
                "lower train.optim_g.lr and go on from the last checkpoint, which is good, with "
                "path.pretrain_network_g"
            )
        files = {stem: f"{stem}_{iteration}.safetensors" for stem in weights}
        state = {
            "format": FORMAT,
            "files": files,
            "loader": loader.state_dict(),
            "model": model.state_dict(),
            "fit": None if self.fit is None else self.fit.state_dict(),
            "rng": rng_state(),
            "best": None if self.best is None else vars(self.best),
            "options": self.options.model_dump(mode="json"),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        path = self.folders.states / f"{iteration}.state"
        try:
            for stem, name in files.items():
                self._write_weights(
                    self.folders.models / name, weights[stem], iteration, ema=stem.endswith("_ema")
                )
            write_atomic(path, buffer.getvalue())
        except DiskError:
            for name in files.values() if not path.exists() else ():
                with contextlib.suppress(OSError):  # nothing would ever read or delete them
                    (self.folders.models / name).unlink(missing_ok=True)
            raise
        self._saved_iteration = iteration
        log.info("saved iteration %d in %s", iteration, self.folders.root)
        self._prune()

    def save_if_best(
        self, model: BaseModel, metric: str, value: float, better: Literal["higher", "lower"]
    ) -> None:
        """Keep the validated weights as `net_g_best.safetensors` if `value` beats all before."""
        if math.isnan(value):
            log.warning(
                "%s is not a number at iteration %d: the weights cannot be the best",
                metric,
                model.iteration,
            )
            return
        if self.best is not None and self.best.metric == metric:
            gain = value - self.best.value if better == "higher" else self.best.value - value
            if gain <= 0:
                return
        path = self.folders.models / "net_g_best.safetensors"
        ema = model.evaluated_network is not model.network
        self._write_weights(path, _weights(model.evaluated_network), model.iteration, ema=ema)
        self.best = Best(metric, value, model.iteration)
        log.info(
            "best so far: %s %.4f at iteration %d, kept as %s", metric, value, model.iteration, path
        )

    def _write_weights(
        self, path: Path, weights: dict[str, torch.Tensor], iteration: int, *, ema: bool
    ) -> None:
        write_atomic(path, to_safetensors(weights, metadata=self.metadata(iteration, ema=ema)))

    def _prune(self) -> None:
        states = sorted(
            (p for p in self.folders.states.glob("*.state") if p.stem.isdigit()),
            key=lambda p: int(p.stem),
        )
        for state in states[: -self.options.logger.keep_last]:
            state.unlink(missing_ok=True)
            for weights in self.folders.models.glob(f"*_{state.stem}.safetensors"):
                weights.unlink(missing_ok=True)

    def load(self, path: Path, model: BaseModel, loader: DynamicDataLoaderWrapper) -> None:
        """Put model, loader and the global random generators where they were when `path` was saved.

        Raises:
            CheckpointError: if a file is missing, damaged or of another network.
        """
        state = read_state(path)
        models = path.parent.parent / "models"
        for stem, network in model.networks.items():
            name = state["files"].get(stem)
            if name is None:
                log.warning("%s holds no %s: it starts from net_g's weights", path, stem)
                name = state["files"]["net_g"]
            try:
                load_weights(network, models / name, strict=True, what=stem)
            except CheckpointError as error:
                raise CheckpointError(
                    f"cannot go on from {path}: {error}\nIf the options are those of the run and "
                    f"the file is lost, delete {path} to go on from the checkpoint before it."
                ) from error
        self._refuse_other_types(path, state["options"]["train"])
        try:
            model.load_state_dict(state["model"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} does not fit these options (another optimizer or scheduler?): {error}. "
                "Use the options that the run was started with, or start anew from its weights "
                "with path.pretrain_network_g."
            ) from error
        restore_rng_state(state["rng"])
        self.best = Best(**state["best"]) if state["best"] else None
        self._saved_iteration = model.iteration
        loader.load_state_dict(state["loader"])
        if self.fit is not None and state["fit"]:
            self.fit.load_state_dict(state["fit"])
        self._say_what_changed(path, state["options"])
        log.info(
            "resumed %s: iteration %d, %d samples", path, model.iteration, loader.samples_consumed
        )

    def _refuse_other_types(self, path: Path, before: dict[str, Any]) -> None:
        """Another class could not use the saved state, and would not always say so."""
        now = self.options.train.model_dump(mode="json")
        for key in ("optim_g", "scheduler"):
            old, new = ((section[key] or {}).get("type") for section in (before, now))
            if old != new:
                raise CheckpointError(
                    f"{path} was saved with train.{key}.type: {old}, and now it is {new}: its "
                    f"state is of no use to the other one. Keep {old}, or start anew from its "
                    "weights with path.pretrain_network_g."
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
    if not isinstance(state, dict) or state.get("format") != FORMAT or not state.keys() >= KEYS:
        raise CheckpointError(
            f"{path} is no training state of this program (weights go to path.pretrain_network_g)"
        )
    return state


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """The network's weights as independent, contiguous tensors in main memory, as safetensors wants
    them.
    """
    return {
        name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, weight in network.state_dict().items()
    }
