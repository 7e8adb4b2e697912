"""Where a model is computed."""

from __future__ import annotations

from typing import Literal

import torch

from hexavit.errors import HexavitError

Device = Literal["auto", "cpu", "cuda", "mps"]


def pick_device(device: Device = "auto") -> torch.device:
    """The device by name; ``"auto"`` takes an accelerator where there is one.

    Raises:
        HexavitError: when that device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, found in there.items() if found))
    if not there[device]:
        usable = ", ".join(name for name, found in there.items() if found)
        raise HexavitError(f"the device {device!r} is not there on this machine, which has: {usable}")
    return torch.device(device)
