"""How long it will take, told once it is known, with smaller choices where that is over an hour."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from rich.console import Console

from hexavit.duration import in_words
from hexavit.runs.run_folder import Run
from hexavit.training.auto_config.alternatives import smaller_choices
from hexavit.training.auto_config.facts import candidates
from hexavit.training.auto_config.rules import HOUR, counted
from hexavit.training.config import TrainConfig

STEPS = 20
"""After so many the time is told; the first few, in which things warm up, do not count."""
_WARM = 3
_HELD_OUT = 1 / 3  # of a training image's time, as there is no backward pass


class TimeLeft(L.Callback):
    """Tells, after :data:`STEPS` steps, how long the training will take; it goes on whatever the answer.

    Args:
        console: where it is told.
        held_out: images held out for each one trained on.
        offer: from the seconds left, lines with what would take less; asked where they are over an hour.
    """

    def __init__(self, console: Console, held_out: float, offer: Callable[[float], Sequence[str]]) -> None:
        self.console, self.held_out, self.offer = console, held_out, offer
        self._seen, self._before = 0, 0.0
        self._times: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._before = _now(pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._seen >= STEPS:
            return
        self._seen += 1
        now = _now(pl_module)
        if self._seen > _WARM:
            self._times.append(now - self._before)
        self._before = now
        if self._seen == STEPS and trainer.is_global_zero:
            self._tell(trainer, batch_idx + 1)

    def _tell(self, trainer: L.Trainer, done: int) -> None:
        batches, epochs = int(trainer.num_training_batches), (trainer.max_epochs or 0) - trainer.current_epoch
        epoch = batches * sum(self._times) / len(self._times) * (1 + self.held_out * _HELD_OUT)
        left = epoch * (epochs - done / batches)
        lines = [f"about {in_words(left)} left: {epochs} epochs of {in_words(epoch)}"]
        if left > HOUR:
            lines += self.offer(left)
        self.console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _now(module: L.LightningModule) -> float:
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)  # its work is only queued when a step returns
    return time.perf_counter()


def offer_smaller(run: Run, config: TrainConfig, model: Any) -> Callable[[float], Sequence[str]]:
    """For :class:`TimeLeft`: commands for trainings like this one that take less time."""

    def offer(left: float) -> Sequence[str]:
        macs = counted(model.architecture).macs
        found = smaller_choices(config, left, model.architecture.img_size, macs, candidates())
        if not found:
            return []
        again = f"hexavit train --config {shlex.quote(str(run.config))}"
        out = shlex.quote(f"{run.path}-smaller")
        lines = [f"  {again} {each.option} --out {out}  # about {in_words(each.seconds)}" for each in found]
        return ["this training goes on; any of these would be shorter:", *lines]

    return offer
