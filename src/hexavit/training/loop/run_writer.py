"""Writes the metrics and weights of each epoch to the run folder."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress

from safetensors.torch import save
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from hexavit.errors import RunError
from hexavit.files import replacing, write_text
from hexavit.runs.history import Row, best_row
from hexavit.runs.run_folder import Run, Weights


class RunWriter:
    """Writes ``metrics.csv``, ``tensorboard/`` and ``weights/``. Only the first process uses it.

    Args:
        run: the run folder.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._board: SummaryWriter | None = None

    def start(self, history: Sequence[Row]) -> None:
        """Rewrite the table and the TensorBoard log from the epochs in a checkpoint; later entries are removed."""
        shutil.rmtree(self.run.tensorboard, ignore_errors=True)
        try:
            self._board = SummaryWriter(str(self.run.tensorboard))
        except OSError as error:
            raise self._not_writable(error) from error
        for row in history:
            self._log(row)
        if history:
            self._write_table(history)
        else:
            self.run.history.unlink(missing_ok=True)

    def write(
        self, history: Sequence[Row], state: Mapping[str, Tensor], thresholds: Sequence[float] | None = None
    ) -> None:
        """Write the files of a finished epoch.

        Args:
            history: of all epochs.
            state: state dict of the model.
            thresholds: of its classes, for data with several classes per image.
        """
        weights = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        best = best_row(history) is history[-1]
        if thresholds is not None:
            self.run.write_thresholds(thresholds, best=best)
        self._write_weights(weights, "last")
        if best:
            self._write_weights(weights, "best")
        self._write_table(history)
        self._log(history[-1])

    def close(self) -> None:
        """Close the TensorBoard log."""
        if self._board is not None:
            with suppress(OSError):
                self._board.close()

    def _log(self, row: Row) -> None:
        assert self._board is not None
        try:
            for name, value in row.items():
                if name not in {"epoch", "step"}:
                    self._board.add_scalar(name, value, global_step=int(row["step"]))
            self._board.flush()
        except OSError as error:
            raise self._not_writable(error) from error

    def _write_table(self, history: Sequence[Row]) -> None:
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, fieldnames=list(history[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_text(self.run.history, table.getvalue())

    def _write_weights(self, weights: dict[str, Tensor], which: Weights) -> None:
        with replacing(self.run.weights(which)) as temporary:
            temporary.write_bytes(save(weights))

    def _not_writable(self, error: OSError) -> RunError:
        return RunError(f"{self.run.tensorboard}: this log cannot be written ({error.strerror})")
