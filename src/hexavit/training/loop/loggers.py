"""Logging of a run to Weights & Biases."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from typing import Any

from hexavit.errors import HexavitError, RunError
from hexavit.files import write_text
from hexavit.runs.history import Row
from hexavit.runs.run_folder import Run
from hexavit.training.config import TrainConfig
from hexavit.training.loop.listener import Listener
from hexavit.training.loop.train_state import TrainState


class WandbLogger(Listener):
    """Logs each epoch to the project ``config.wandb``. A resumed run continues the same W&B run.

    The files of the package are in ``wandb`` in the run folder; ``WANDB_MODE=offline`` logs there only.

    Raises:
        HexavitError: the package ``wandb`` is not installed.
    """

    def __init__(self, run: Run, config: TrainConfig) -> None:
        self.wandb = import_wandb()
        self.run, self.config = run, config
        self._session: Any = None

    def on_start(self, state: TrainState, steps_per_epoch: int, epochs: float) -> None:
        known = self.run.wandb / "run-id"
        resumes = self.run.checkpoint.is_file() and known.is_file()
        known.parent.mkdir(exist_ok=True)
        try:
            self._session = self.wandb.init(
                project=self.config.wandb,
                name=self.run.path.name,
                dir=str(self.run.path),
                config=asdict(self.config),
                id=known.read_text(encoding="utf-8").strip() if resumes else None,
                resume="allow",
            )
        except Exception as error:  # wandb raises many types: no login, no network, no project
            reason = " ".join(str(error).split())
            raise RunError(
                f"Weights & Biases cannot be logged to ({reason}); WANDB_MODE=offline logs to the run folder"
            ) from error
        write_text(known, str(self._session.id))

    def on_epoch(self, row: Row) -> None:
        self._session.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))

    def on_end(self, *, failed: bool) -> None:
        if self._session is not None:
            self._session.finish(exit_code=int(failed))
            self._session = None


def import_wandb() -> Any:
    """The package ``wandb``.

    Raises:
        HexavitError: it is not installed.
    """
    try:
        return import_module("wandb")
    except ImportError as error:
        raise HexavitError("--wandb needs the package wandb: pip install 'hexavit[wandb]'") from error
