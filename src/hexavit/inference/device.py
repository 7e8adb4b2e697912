"""The device on which a model runs."""

from __future__ import annotations

from typing import Literal

import torch

from hexavit.errors import HexavitError

Device = Literal["auto", "cpu", "cuda", "mps"]


def pick_device(device: Device = "auto") -> torch.device:
    """The device of a name; ``"auto"`` is an accelerator if there is one, else the CPU.

    Raises:
        HexavitError: this machine has no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, found in there.items() if found))
    if not there[device]:
        usable = ", ".join(name for name, found in there.items() if found)
        raise HexavitError(f"this machine has no device {device!r}; choose from: {usable}")
    return torch.device(device)
