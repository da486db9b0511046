"""What is held on the device, for messages, and giving back what is not needed any more."""

from __future__ import annotations

from collections.abc import Iterable

import psutil
import torch
from torch import Tensor, nn

from traiNNer.models.phase import Phase
from traiNNer.utils.text import gib


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
