"""The time left, printed after the first steps, with shorter alternatives when it is over an hour."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from hexavit.duration import in_words
from hexavit.runs.run_folder import Run
from hexavit.training.auto_config.alternatives import shorter_alternatives
from hexavit.training.auto_config.facts import candidates
from hexavit.training.auto_config.rules import HOUR, model_cost
from hexavit.training.config import TrainConfig
from hexavit.training.loop.listener import Listener
from hexavit.training.loop.train_state import TrainState

STEPS = 20
"""The estimate is printed after this many steps."""
_WARM_UP = 3  # first steps, which are slower and are not counted
_VALIDATION = 1 / 3  # time of a validation image relative to a training image: there is no backward pass


class TimeEstimate(Listener):
    """Prints the time left after :data:`STEPS` steps.

    Args:
        console: where it is printed.
        validation: validation images per training image.
        alternatives: from the seconds left to lines with shorter runs; called when they are over an hour.
    """

    def __init__(self, console: Console, validation: float, alternatives: Callable[[float], Sequence[str]]) -> None:
        self.console, self.validation, self.alternatives = console, validation, alternatives
        self._durations: list[float] = []

    def on_start(self, state: TrainState, steps_per_epoch: int, epochs: float) -> None:
        self.steps_per_epoch, self.epochs = steps_per_epoch, epochs

    def on_step(self, state: TrainState, loss: float, seconds: float) -> None:
        if len(self._durations) < STEPS:
            self._durations.append(seconds)
            if len(self._durations) == STEPS:
                self._print(state)

    def _print(self, state: TrainState) -> None:
        counted_steps = self._durations[_WARM_UP:]
        step = sum(counted_steps) / len(counted_steps)
        epoch = self.steps_per_epoch * step * (1 + self.validation * _VALIDATION)
        epochs = self.epochs - state.epoch
        left = epoch * (epochs - state.step / self.steps_per_epoch)
        lines = [f"about {in_words(left)} left: {epochs:.3g} epochs of {in_words(epoch)}"]
        if left > HOUR:
            lines += self.alternatives(left)
        self.console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def shorter_runs(run: Run, config: TrainConfig, model: Any) -> Callable[[float], Sequence[str]]:
    """For :class:`TimeEstimate`: commands for similar runs that take less time."""

    def alternatives(left: float) -> Sequence[str]:
        macs = model_cost(model.architecture).macs
        found = shorter_alternatives(config, left, model.architecture.img_size, macs, candidates())
        if not found:
            return []
        again = f"hexavit train --config {shlex.quote(str(run.config))}"
        out = shlex.quote(f"{run.path}-smaller")
        lines = [f"  {again} {each.option} --out {out}  # about {in_words(each.seconds)}" for each in found]
        return ["this run continues; any of these would be shorter:", *lines]

    return alternatives
