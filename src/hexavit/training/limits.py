"""Rejects a run that cannot fit: more images in a batch than there are, or more memory than the machine has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hexavit.architecture import Architecture
from hexavit.errors import ArchitectureError
from hexavit.training.auto_config.facts import this_machine
from hexavit.training.auto_config.rules import STATE_BYTES, model_cost
from hexavit.training.config import ConfigError, TrainConfig

_SIDE = 32
"""Image sizes are suggested in multiples of this."""


def check_fits(config: TrainConfig, architecture: Architecture, images: int) -> None:
    """Check the batch against the training images, and the memory of a step against that of the device.

    Args:
        config: the settings.
        architecture: the model at the size of the run.
        images: number of training images.

    Raises:
        ConfigError: it does not fit; the message names the largest value that does.
    """
    if config.batch_size > images:
        raise ConfigError(f"batch_size is at most {images}, the number of training images, not {config.batch_size}")
    machine = this_machine(config.device)
    available = machine.device_memory or machine.memory
    share = -(-config.batch_size // config.devices)
    at_once = min(config.micro_batch or share, share)

    def needed(side: int | None = None, count: int = 1) -> float:
        sized = architecture if side is None else replace(architecture, img_size=(side, side))
        return _step_bytes(sized, count, config)

    if needed() > available:
        height, width = architecture.img_size
        most = max(height, width) // _SIDE
        guess = int(most * (available / needed()) ** 0.5)  # mostly, the memory grows with the number of pixels
        side = _largest(lambda multiple: _fits(needed, multiple * _SIDE, available), most, guess) * _SIDE
        hint = f"at most {side} x {side} fits" if side else "use a smaller model"
        raise ConfigError(
            f"a single image of {height} x {width} pixels takes about {_gigabytes(needed())} in training, and this "
            f"machine has {_gigabytes(available)}: {hint}"
        )
    if needed(count=at_once) > available:
        fitting = _largest(lambda count: needed(count=count) <= available, at_once, at_once // 2)
        raise ConfigError(
            f"{at_once} images at a time take about {_gigabytes(needed(count=at_once))} in training, and this machine "
            f"has {_gigabytes(available)}: --micro-batch {fitting} fits, and gives the same result"
        )


def _step_bytes(architecture: Architecture, images: int, config: TrainConfig) -> float:
    """Bytes of weights, optimizer state and activations of a training step."""
    cost = model_cost(architecture)
    state = STATE_BYTES * cost.parameters / (config.devices if config.shard else 1)
    share = 1 if config.precision == "float32" else 0.5
    if config.grad_checkpointing:
        # A block keeps about twelve times its input, and all of it only while it is recomputed.
        share *= min(1, 1 / 12 + 1 / sum(stage.depth for stage in architecture.stages))
    return state + images * cost.activation_bytes * share


def _fits(needed: Callable[[int], float], side: int, available: float) -> bool:
    try:
        return needed(side) <= available
    except ArchitectureError:  # not a size that this model accepts
        return False


def _largest(fits: Callable[[int], bool], most: int, guess: int) -> int:
    """The largest number up to ``most`` that fits, by bisection; 0 if none does.

    ``guess`` and the number after it are tried first; a good guess spares the bisection.
    """
    low, high = 0, most
    tries = [guess, guess + 1]
    while low < high:
        middle = tries.pop(0) if tries else (low + high + 1) // 2
        if low < middle <= high:
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
