"""What is held on the device, for messages, giving back what is not needed any more, and trying
again with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

import psutil
import torch
from torch import Tensor, nn

from traiNNer.models.phase import Phase
from traiNNer.utils.out_of_memory import first_line, is_out_of_memory
from traiNNer.utils.text import gib

log = logging.getLogger(__name__)
T = TypeVar("T")


def describe_needs(
    networks: Iterable[nn.Module], phases: Iterable[Phase], device: torch.device
) -> str:
    """What is there before any activation, and what the process holds, in GiB."""
    phases = list(phases)
    weights = sum(tensor.nbytes for network in networks for tensor in network.state_dict().values())
    gradients = sum(p.nbytes for phase in phases for p in phase.parameters)
    states = [values for phase in phases for values in phase.optimizer.state.values()]
    slots = [slot for values in states for slot in values.values() if isinstance(slot, Tensor)]
    optimizer_state = sum(slot.nbytes for slot in slots)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device)
        held = f"{gib(reserved)} are held of {gib(total)}, of which {gib(free)} are free"
    else:
        held = f"the process holds {gib(psutil.Process().memory_info().rss)}"
    return (
        f"weights take {gib(weights)}, gradients {gib(gradients)}, optimizer state "
        f"{gib(optimizer_state)}; {held}"
    )


def release_memory(device: torch.device) -> None:
    """Give back what an abandoned attempt left in the caches."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def with_second_try(action: Callable[[], T], device: torch.device, what: str) -> T:
    """What `action` gives; where memory runs out, once more with what is not in use given back.

    Args:
        action: may be done again after it was broken off anywhere.
        device: that it works on.
        what: it does, for the log.
    """
    try:
        return action()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        complaint = first_line(error)
    # Behind the except block nothing holds the frames of the failed attempt.
    release_memory(device)
    log.warning("out of memory in %s: tried again (%s)", what, complaint)
    return action()
