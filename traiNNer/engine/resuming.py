"""From a checkpoint back into a run: the weights by their roles, every part's state by its name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from traiNNer.archs.loading import load_weights
from traiNNer.engine.run import Run
from traiNNer.engine.saved_state import require_intact, weights_path
from traiNNer.models import Network
from traiNNer.options.loading import changed_options
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.errors import CheckpointError, TraiNNerError

log = logging.getLogger(__name__)
# Of schedules, as torch calls them.
_LENGTHS = (".T_max", ".total_iters", ".total_steps")


def load_state(state: Mapping[str, Any], path: Path, run: Run) -> None:
    """Put the run where it was when `state` was read from `path`.

    Raises:
        CheckpointError: if weights are missing, damaged or of another network, or something does
            not fit the run's options.
    """
    for network in run.recipe.networks:
        if network.saved:
            _load_network(network, state["files"], path)
    _refuse_other_types(path, state["options"]["train"], run.options)
    try:
        _load_parts(path, run, state["parts"])
    except TraiNNerError:
        raise
    # Each part knows its own state only, and trips over one of other options as it may.
    except Exception as error:
        # A KeyError says nothing but the key.
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{path} does not fit these options (another optimizer or scheduler?): {reason}. Use "
            "the options that the run was started with, or start anew from its weights with "
            "path.pretrain_network_g."
        ) from error


def say_what_changed(
    path: Path, before: Mapping[str, Any], options: TrainingOptions, *, restarted: bool
) -> None:
    """Warn of options that differ from the checkpoint's, and say which of the two counts.

    Args:
        path: of the checkpoint.
        before: the options that it was saved with.
        options: the present ones.
        restarted: whether the schedules begin anew.
    """
    # What a schedule that begins anew takes from the options.
    fresh = ("train.optim_g.lr", "train.scheduler.") if restarted else ()
    for key, (old, new) in changed_options(dict(before), options).items():
        if key.startswith(("path.", "name")):
            continue
        kept = key.startswith(("train.optim_g.", "train.scheduler."))
        kept = kept and not key.startswith(fresh) and not key.endswith(_LENGTHS)
        rule = "the checkpoint's counts, it is part of the state" if kept else "the new one counts"
        log.warning(
            "%s was saved with %s: %s, and now it is %s; %s", path.name, key, old, new, rule
        )


def _load_parts(path: Path, run: Run, states: Mapping[str, Any]) -> None:
    for name, part in run.stateful.items():
        if name in states:
            part.load_state_dict(states[name])
        else:
            log.info("%s holds nothing of the %s: it starts anew", path.name, name)
    for name in states.keys() - run.stateful.keys():
        log.info("%s holds a state of the %s, which is not part of this run", path.name, name)


def _refuse_other_types(path: Path, before: Mapping[str, Any], options: TrainingOptions) -> None:
    """Another class could not use the saved state, and would not always say so."""
    now = options.train.model_dump(mode="json")
    for key in ("optim_g", "optim_d", "scheduler"):
        former, present = ((section.get(key) or {}).get("type") for section in (before, now))
        if former != present:
            raise CheckpointError(
                f"{path} was saved with train.{key}.type: {former}, and now it is {present}: its "
                f"state is of no use to the other one. Keep {former}, or start anew from its "
                "weights with path.pretrain_network_g."
            )


def _load_network(network: Network, files: Mapping[str, dict[str, str]], path: Path) -> None:
    """The weights that a checkpoint has for a network, as its role asks for.

    Raises:
        CheckpointError: if they are missing and required, damaged, or of another network.
    """
    saved = files.get(network.name)
    if saved is None and network.averaged_from is not None:
        log.warning(
            "%s holds no %s: it starts from %s's weights",
            path,
            network.name,
            network.averaged_from,
        )
        saved = files.get(network.averaged_from)
    if saved is None:
        if network.required:
            raise CheckpointError(
                f"cannot go on from {path}: it holds no weights of {network.name}, which this run "
                "trains. Use the options that the run was started with, or start anew from its "
                "weights with path.pretrain_network_g."
            )
        log.warning("%s holds no %s: it starts as it was built", path, network.name)
        return
    file = weights_path(path, saved)
    require_intact(file, saved, path)
    try:
        load_weights(network.module, file, strict=True, what=network.name)
    except CheckpointError as error:
        raise CheckpointError(
            f"cannot go on from {path}: {error}\nIf the options are those of the run and the file "
            f"is lost, delete {path} to go on from the checkpoint before it."
        ) from error
