"""A learning-rate range test: some steps at rising rates, and the rate at which the loss falls fastest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console

from hexavit.data import Source
from hexavit.errors import HexavitError
from hexavit.training.config import TrainConfig
from hexavit.training.loop.listener import Listener
from hexavit.training.loop.schedule import scheduled_factor
from hexavit.training.loop.train_state import TrainState
from hexavit.training.trainer import train

LOWEST, HIGHEST, STEPS = 1e-7, 1.0, 100
_BETA = 0.98  # of the moving average of the losses
_DIVERGED = 4.0  # times the lowest loss
_FIRST = 10  # losses at the beginning that are left out
_FEWEST = 20  # losses from which a rate is suggested


@dataclass(frozen=True)
class RangeTest:
    """The result of :func:`find_learning_rate`.

    Attributes:
        rates: the learning rate of each step.
        losses: moving average of the losses up to the step.
        suggestion: the rate at which it falls fastest.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float


class _Finished(Exception):  # noqa: N818  # not an error
    """The losses are complete."""


class _Losses(Listener):
    def __init__(self) -> None:
        self.losses: list[float] = []
        self._average = 0.0

    def on_step(self, state: TrainState, loss: float, seconds: float) -> None:
        self._average = _BETA * self._average + (1 - _BETA) * loss
        self.losses.append(self._average / (1 - _BETA ** (len(self.losses) + 1)))
        if len(self.losses) == STEPS or self.losses[-1] > _DIVERGED * min(self.losses):
            raise _Finished


def find_learning_rate(
    config: TrainConfig, *, source: Source | None = None, console: Console | None = None
) -> RangeTest:
    """Train for :data:`STEPS` steps in which the rate rises from 1e-7 to 1, and suggest one (Smith, WACV 2017).

    The suggestion is that of Lightning's ``Tuner.lr_find``: the steepest descent of the moving average of the losses.
    The test ends early where the loss is four times its lowest value. It uses one process, and a temporary folder.

    Args:
        config: the settings of the run; its learning rate, schedule and length are not used.
        source: the data of ``config``, if it is open already.
        console: where the preparation of the run is printed.

    Raises:
        HexavitError: a setting is not valid, or the loss diverges before anything can be suggested.
    """
    unused: dict[str, Any] = {"lr_batch": None, "warmup_steps": None, "warmup_epochs": 0.0, "cooldown_epochs": 0.0}
    unused |= {"min_lr": 0.0, "patience": 0, "ema": 0.0, "wandb": None, "devices": 1, "shard": False, "save_every": 1e9}
    rising: dict[str, Any] = {"schedule": "exponential", "warmup_lr": LOWEST, "lr": HIGHEST, "steps": STEPS}
    tested = replace(config, **unused, **rising)
    found, failure = _Losses(), "the test ended without a step"
    with TemporaryDirectory() as folder:
        try:
            train(tested, Path(folder, "run"), console=console, source=source, listeners=[found])
        except _Finished:
            pass
        except HexavitError as error:  # the loss is not finite
            if not found.losses:
                raise
            failure = str(error)
    losses = found.losses
    if len(losses) < _FEWEST:
        raise HexavitError(f"no learning rate can be suggested from {len(losses)} steps: {failure}")
    rates = [HIGHEST * scheduled_factor(step, tested, STEPS) for step in range(len(losses))]
    steepest = int(np.gradient(losses[_FIRST:-1]).argmin()) + _FIRST
    return RangeTest(rates, losses, float(f"{rates[steepest]:.2g}"))
