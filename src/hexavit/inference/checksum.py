"""A checksum of what a model computes."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def model_checksum(model: nn.Module, *facts: object) -> str:
    """A checksum of all parameters and buffers of a model, and of other facts by their text."""
    checksum = hashlib.blake2b(" ".join(map(str, facts)).encode(errors="surrogateescape"))
    for name, value in sorted(model.state_dict().items()):
        checksum.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        checksum.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return checksum.hexdigest()
