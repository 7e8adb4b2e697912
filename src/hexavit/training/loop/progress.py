"""Progress of a run on the console: a line per epoch, and on a terminal a progress bar below the lines."""

from __future__ import annotations

import math
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hexavit.runs.history import Row
from hexavit.training.loop.listener import Listener
from hexavit.training.loop.train_state import TrainState


def make_progress(console: Console) -> ProgressLines:
    """A progress bar where the console is a terminal, else only lines."""
    return ProgressBar(console) if console.is_terminal else ProgressLines(console)


class ProgressLines(Listener):
    """Prints one line after each epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def on_start(self, state: TrainState, steps_per_epoch: int, epochs: float) -> None:
        self._began, self._done_before = time.monotonic(), state.epoch
        self.steps_per_epoch, self.epochs, self.length = steps_per_epoch, math.ceil(epochs), epochs

    def on_epoch(self, row: Row) -> None:
        done = row["epoch"] - self._done_before
        left = (time.monotonic() - self._began) / done * max(0, self.length - row["epoch"])
        precision = f"mAP {row['map']:.2%}  " if "map" in row else ""
        self.console.print(
            f"epoch {row['epoch']}/{self.epochs}  loss {row['train_loss']:.3f}  validation loss {row['loss']:.3f}  "
            f"accuracy {row['accuracy']:.2%}  {precision}{row['images_per_second']:.0f} images/s  {left:.0f} s left",
            highlight=False,
            soft_wrap=True,
        )


class ProgressBar(ProgressLines):
    """Adds a bar with the loss of the current step, images per second and the time left. It disappears at the end."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[speed]} images/s"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )

    def on_start(self, state: TrainState, steps_per_epoch: int, epochs: float) -> None:
        super().on_start(state, steps_per_epoch, epochs)
        done = state.epoch * steps_per_epoch + state.step
        unknown: dict[str, Any] = {"loss": "–", "speed": "–"}
        self._task = self._bar.add_task(
            "training",
            total=round(epochs * steps_per_epoch),
            completed=done,
            epoch=state.epoch + 1,
            epochs=self.epochs,
            **unknown,
        )
        self._bar.start()

    def on_step(self, state: TrainState, loss: float, seconds: float) -> None:
        self._bar.update(
            self._task,
            completed=state.epoch * self.steps_per_epoch + state.step,
            epoch=state.epoch + 1,
            loss=f"{loss:.3f}",
            speed=f"{state.images_per_second:.0f}",
        )

    def on_end(self, *, failed: bool) -> None:
        self._bar.stop()
