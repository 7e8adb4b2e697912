"""Randomness as a function of what it is for: a sample's of (seed, epoch, index), a batch's of (seed, epoch, step).

No generator is carried from one draw to the next, so neither the number of workers nor an interruption changes a draw.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A seed of 63 bits for one purpose, such as ``derive(0, "sample", epoch, index)``; the same on every machine."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Set Python's, NumPy's and torch's generators (of the CPU) for one purpose, and put them back afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    derived = derive(seed, *purpose)
    random.seed(derived)
    np.random.seed(derived % 2**32)
    torch.default_generator.manual_seed(derived)  # torch.manual_seed asks every device, which takes 0.3 ms
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
