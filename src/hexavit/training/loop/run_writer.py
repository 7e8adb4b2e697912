"""Keeps the run folder true to the training: a checkpoint every so often, and after every epoch all its files."""

from __future__ import annotations

import csv
import io
import math
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from hexavit.errors import RunError
from hexavit.evaluation.metrics import figure
from hexavit.files import replacing, write_text
from hexavit.runs.run_folder import Run, Weights
from hexavit.training.loop.module import Classifier, NotFiniteError, Wishes
from hexavit.training.loop.signals import Leave, Leaving
from hexavit.training.loop.train_state import Position

Row = dict[str, float]


def by_clock(value: float) -> float:
    """A measured time or rate with the digits that mean something."""
    return float(f"{value:.6g}")


class Recorder(Checkpoint):
    """Writes the checkpoint every so often, and at the end of each epoch metrics, weights and the checkpoint, in that
    order; and leaves the loop, with a checkpoint, when a signal asks for it.

    The history travels in the checkpoint. A training that goes on writes its files from there, so that what was
    logged after the checkpoint is gone. Only the first process writes.

    Attributes:
        history: one row an epoch: ``epoch`` (from 1), ``step``, ``learning_rate``, ``train_loss``, ``loss`` and
            ``accuracy`` and ``top5`` (held out), ``micro_batch`` (images that a device took at once),
            ``images_per_second`` and ``seconds`` (training alone, of the epoch).

    Args:
        run: the folder.
        report: called with each new row, once everything is written.
        save_every: seconds between checkpoints.
    """

    def __init__(self, run: Run, report: Callable[[Row], None], save_every: float = math.inf) -> None:
        self.run = run
        self.report = report
        self.save_every = save_every
        self.history: list[Row] = []
        self.saved: Position | None = None
        self._board: SummaryWriter | None = None

    @property
    def best(self) -> Row:
        """The first row of the highest held-out accuracy."""
        return max(self.history, key=lambda row: row["accuracy"])

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = cast("Classifier", pl_module)
        self._leaving = Leaving(partial(self._give_up, module), lambda: getattr(trainer.strategy.launcher, "procs", []))
        self._leaving.listen()
        self._due = time.monotonic() + self.save_every
        module.wishes = partial(self._wishes, trainer)
        if trainer.is_global_zero:
            self._rewrite_logs()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = cast("Classifier", pl_module)
        if module.agreed.save:
            self._save_checkpoint(trainer, module)
        self._leave_if_asked(trainer, module)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._leave_if_asked(trainer, cast("Classifier", pl_module))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = cast("Classifier", pl_module)
        position, measured = module.position, {name: figure(each) for name, each in trainer.callback_metrics.items()}
        row: Row = {
            "epoch": len(self.history) + 1,
            "step": trainer.global_step,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "train_loss": position.mean_loss,
            **{name: measured[name] for name in ("loss", "accuracy", "top5") if name in measured},
            "micro_batch": module.micro_batch,
            "images_per_second": by_clock(position.images / position.seconds),
            "seconds": by_clock(position.seconds),
        }
        self.history.append(row)
        if trainer.is_global_zero:
            self._write(row, module.judged)
        position.next_epoch()
        self._save_checkpoint(trainer, module)
        self.report(row)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, NotFiniteError):
            self._save_checkpoint(trainer, cast("Classifier", pl_module))
        self._close()

    def _wishes(self, trainer: L.Trainer) -> Wishes:
        due = trainer.is_global_zero and time.monotonic() >= self._due
        return Wishes(self._leaving.asked == signal.SIGINT, self._leaving.asked == signal.SIGTERM, due)

    def _save_checkpoint(self, trainer: L.Trainer, module: Classifier) -> None:
        trainer.save_checkpoint(self.run.checkpoint)
        self.saved = replace(module.position)
        self._due = time.monotonic() + self.save_every

    def _leave_if_asked(self, trainer: L.Trainer, module: Classifier) -> None:
        if module.agreed.interrupt or module.agreed.terminate:
            if self.saved != module.position:
                self._save_checkpoint(trainer, module)
            raise Leave(signal.SIGTERM if module.agreed.terminate else signal.SIGINT)

    def _give_up(self, module: Classifier) -> None:
        if module.processes.rank == 0:
            again = f"to go on {self.saved}, use --resume" if self.saved else "there is no checkpoint to go on from yet"
            print(f"stopped within a step that takes too long; {again}", flush=True)

    def _rewrite_logs(self) -> None:
        """Let the table and TensorBoard's log tell of the rows in the history, and of no later ones."""
        shutil.rmtree(self.run.tensorboard, ignore_errors=True)
        try:
            self._board = SummaryWriter(str(self.run.tensorboard))
        except OSError as error:
            raise RunError(f"{self.run.tensorboard}: this log cannot be written ({error.strerror})") from error
        for row in self.history:
            self._log(row)
        if self.history:
            self._write_table()
        else:
            self.run.history.unlink(missing_ok=True)

    def _log(self, row: Row) -> None:
        if self._board is None:
            return
        try:
            for name, value in row.items():
                if name not in {"epoch", "step"}:
                    self._board.add_scalar(name, value, global_step=int(row["step"]))
            self._board.flush()
        except OSError as error:
            raise RunError(f"{self.run.tensorboard}: this log cannot be written ({error.strerror})") from error

    def _write(self, row: Row, model: nn.Module) -> None:
        weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        self._save(weights, "last")
        if self.best is row:
            self._save(weights, "best")
        self._write_table()
        self._log(row)

    def _write_table(self) -> None:
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, fieldnames=list(self.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_text(self.run.history, table.getvalue())

    def _close(self) -> None:
        if hasattr(self, "_leaving"):
            self._leaving.stop()
        if self._board is not None:
            with suppress(OSError):
                self._board.close()

    def _save(self, weights: dict[str, Tensor], which: Weights) -> None:
        with replacing(self.run.weights(which)) as temporary:
            temporary.write_bytes(save(weights))
