"""Randomness that is a pure function of named numbers, and the state of the global generators."""

from __future__ import annotations

import hashlib
import random
import struct
from typing import Any

import numpy as np
import torch


def hash_seed(*parts: int) -> int:
    """A 63-bit seed that depends on every part and on nothing else (the same on every machine and
    Python).
    """
    digest = hashlib.blake2b(struct.pack(f"<{len(parts)}q", *parts), digest_size=8).digest()
    # 63 bits, because torch and struct take signed numbers.
    return int.from_bytes(digest, "little") >> 1


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators (all devices)."""
    random.seed(seed)
    # numpy's old generator, which torchvision and others draw from, takes no more bits.
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """The state of every global generator, made of what `torch.load(weights_only=True)` accepts."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [
            str(name),
            # A tensor, because arrays of numpy are not read with weights_only.
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            position,
            has_gauss,
            cached,
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng_state(state: dict[str, Any]) -> None:
    """Undo everything drawn since `rng_state()`. CUDA states are restored for as many devices as
    there are.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available():
        # A run may go on on a machine with fewer cards, or more.
        devices = range(torch.cuda.device_count())
        for device, cuda_state in zip(devices, state["cuda"], strict=False):
            torch.cuda.set_rng_state(cuda_state.cpu(), device)
