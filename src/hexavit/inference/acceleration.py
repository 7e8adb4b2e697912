"""When prediction and evaluation use `hexavit.optimize`."""

from __future__ import annotations

import torch
from torch import nn

import hexavit
from hexavit import Backbone
from hexavit.errors import HexavitError
from hexavit.parts.contract import Size

FROM_IMAGES = 2000
"""Images from which on the seconds that `optimize` takes to time its changes are worth it."""


def optimized(
    model: nn.Module, device: torch.device, wanted: bool | None, images: int, img_size: Size, batch_size: int
) -> nn.Module:
    """The model, or its copy from `hexavit.optimize`.

    Args:
        model: on `device`.
        device: where it computes.
        wanted: True or False decides; None leaves it to the device and the number of images.
        images: how many are still to be computed.
        img_size: height and width of the images, in pixels.
        batch_size: images in a batch; changes are timed on 8 at most.

    Raises:
        HexavitError: `wanted` on a device that is not a CPU.
    """
    in_float32 = all(p.dtype == torch.float32 for p in model.parameters())
    if device.type != "cpu" or not in_float32 or not isinstance(model, Backbone):
        if wanted:
            raise HexavitError(f"optimize is for float32 models of hexavit on a CPU, and this model is on {device}")
        return model
    if not (images >= FROM_IMAGES if wanted is None else wanted):
        return model
    return hexavit.optimize(model, batch_size=min(batch_size, 8), img_size=img_size)
