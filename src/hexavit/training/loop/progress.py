"""What the reader sees while a model trains: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hexavit.training.loop.run_writer import Row


def make_progress(console: Console) -> Lines | Bar:
    """The bar where the console is a terminal, else plain lines."""
    return Bar(console) if console.is_terminal else Lines(console)


class Lines(ProgressBar):
    """One line after each epoch. In Lightning's eyes it is a progress bar, so that it adds none of its own."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.shown = True

    def disable(self) -> None:
        """Called by Lightning on every process but the first."""
        self.shown = False

    def enable(self) -> None:
        """Called by Lightning to undo :meth:`disable`."""
        self.shown = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.monotonic()
        self._done_before = trainer.current_epoch

    def report(self, row: Row) -> None:
        """Show the metrics of a finished epoch."""
        if self.shown:
            epochs = self.trainer.max_epochs or 0
            done = row["epoch"] - self._done_before
            left = (time.monotonic() - self._began) / done * (epochs - row["epoch"])
            self.console.print(
                f"epoch {row['epoch']}/{epochs}  loss {row['train_loss']:.3f}  held-out loss {row['loss']:.3f}  "
                f"accuracy {row['accuracy']:.2%}  {row['images_per_second']:.0f} images/s  {left:.0f} s left",
                highlight=False,
                soft_wrap=True,
            )


class Bar(Lines):
    """One bar for the whole training, with loss, held-out accuracy, images per second and time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}  accuracy {task.fields[accuracy]}  {task.fields[speed]} images/s"),
            TimeRemainingColumn(),
            console=console,
        )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.on_train_epoch_start(trainer, pl_module)  # not called where a training goes on within an epoch
        if self.shown:
            self._bar.start()
        self._task = self._bar.add_task(
            "training",
            total=trainer.estimated_stepping_batches,
            completed=trainer.global_step,
            epoch=trainer.current_epoch + 1,
            epochs=trainer.max_epochs,
            loss="–",
            accuracy="–",
            speed="–",
        )

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_began = time.perf_counter()
        self._images = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch[0])
        self._bar.update(
            self._task,
            completed=trainer.global_step,
            epoch=trainer.current_epoch + 1,
            loss=f"{float(outputs['loss']):.3f}",
            speed=f"{self._images / (time.perf_counter() - self._epoch_began):.0f}",
        )

    def report(self, row: Row) -> None:
        """Show the metrics of a finished epoch."""
        self._bar.update(self._task, accuracy=f"{row['accuracy']:.2%}")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._bar.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._bar.stop()
