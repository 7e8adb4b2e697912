"""A training told to Weights & Biases, for those who watch their runs there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from typing import Any

import lightning as L

from hexavit.errors import HexavitError, RunError
from hexavit.files import write_text
from hexavit.runs.run_folder import Run
from hexavit.training.config import TrainConfig
from hexavit.training.loop.run_writer import Row


def check_trackers(config: TrainConfig) -> None:
    """Refuse what :func:`make_trackers` would refuse, before anything is begun.

    Raises:
        HexavitError: a package is not installed.
    """
    if config.wandb is not None:
        _package()


def make_trackers(run: Run, config: TrainConfig) -> list[WandbLog]:
    """What else than the run folder is told of the training."""
    return [WandbLog(run, config)] if config.wandb is not None else []


def telling(*listeners: Callable[[Row], None]) -> Callable[[Row], None]:
    """One listener that tells all of these."""

    def tell(row: Row) -> None:
        for listener in listeners:
            listener(row)

    return tell


class WandbLog(L.Callback):
    """Logs each epoch's row under the project ``config.wandb``; a training that resumes goes on in the same run there.

    What the package itself writes lies in ``wandb`` in the run folder; ``WANDB_MODE=offline`` keeps it there.

    Raises:
        HexavitError: the package ``wandb`` is not installed.
    """

    def __init__(self, run: Run, config: TrainConfig) -> None:
        self.wandb = _package()
        self.run, self.config = run, config
        self._known = run.wandb / "run-id"
        self._there: Any = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        resumes = self.run.checkpoint.is_file() and self._known.is_file()
        self._known.parent.mkdir(exist_ok=True)
        try:
            self._there = self.wandb.init(
                project=self.config.wandb,
                name=self.run.path.name,
                dir=str(self.run.path),
                config=asdict(self.config),
                id=self._known.read_text(encoding="utf-8").strip() if resumes else None,
                resume="allow",
            )
        except Exception as error:  # no login, no network, no project: the package has many kinds
            reason = " ".join(str(error).split())
            raise RunError(
                f"Weights & Biases cannot be logged to ({reason}); WANDB_MODE=offline logs to the run folder"
            ) from error
        write_text(self._known, str(self._there.id))

    def log(self, row: Row) -> None:
        """Log the metrics of a finished epoch."""
        if self._there is not None:
            self._there.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish(0)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._finish(1)

    def _finish(self, status: int) -> None:
        if self._there is not None:
            self._there.finish(exit_code=status)
            self._there = None


def _package() -> Any:
    try:
        return import_module("wandb")
    except ImportError as error:
        raise HexavitError("--wandb needs the package wandb: pip install 'hexavit[wandb]'") from error
