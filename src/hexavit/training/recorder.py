"""Keeps the run folder true to the training: after every epoch all its files tell of the same state."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from hexavit.errors import RunError
from hexavit.inference.run import Run, Weights
from hexavit.training.curves import draw_curves
from hexavit.training.files import replacing, write_text

Row = dict[str, float]


class Recorder(Checkpoint):
    """Writes metrics, weights and the checkpoint of a run at the end of each epoch, the checkpoint last.

    The history travels in the checkpoint. A training that resumes writes its files from there, so what an
    interrupted epoch left behind is written over.

    Attributes:
        history: one row an epoch: ``epoch`` (from 1), ``step``, ``learning_rate``, ``train_loss``, ``loss`` and
            ``accuracy`` and ``top5`` (held out), ``images_per_second`` and ``seconds`` (training alone, of the epoch).

    Args:
        run: the folder.
        report: called with each new row, once everything is written.
    """

    def __init__(self, run: Run, report: Callable[[Row], None]) -> None:
        self.run = run
        self.report = report
        self.history: list[Row] = []
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
        # purge_step hides what was written after the checkpoint from which this training resumes.
        self._board = SummaryWriter(str(self.run.tensorboard), purge_step=trainer.global_step + 1)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.perf_counter()
        self._images = 0
        self._seconds = 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch[0])
        self._seconds = time.perf_counter() - self._began

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        measured = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row: Row = {
            "epoch": len(self.history) + 1,
            "step": trainer.global_step,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            **{name: measured[name] for name in ("train_loss", "loss", "accuracy", "top5") if name in measured},
            "images_per_second": self._images / self._seconds,
            "seconds": self._seconds,
        }
        if not math.isfinite(row["train_loss"]):
            raise RunError(
                f"the loss became {row['train_loss']} in epoch {row['epoch']}: try a lower lr; "
                f"the files in {self.run.path} are those of the epoch before"
            )
        self.history.append(row)
        self._write(row, cast("nn.Module", pl_module.model))
        trainer.save_checkpoint(self.run.checkpoint)
        self.report(row)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        draw_curves(self.history, self.run.curves)

        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    def _write(self, row: Row, model: nn.Module) -> None:
        weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        self._save(weights, "last")
        if self.best is row:
            self._save(weights, "best")
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, fieldnames=list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_text(self.run.history, table.getvalue())
        if self._board is not None:
            for name, value in row.items():
                if name not in {"epoch", "step"}:
                    self._board.add_scalar(name, value, global_step=int(row["step"]))
            self._board.flush()

    def _close(self) -> None:
        if self._board is not None:
            self._board.close()

    def _save(self, weights: dict[str, Tensor], which: Weights) -> None:
        with replacing(self.run.weights(which)) as temporary:
            temporary.write_bytes(save(weights))
